"""The state of a thread in Redis, and every change of it: one Lua script each.

    {thread}:inbox   list    ids of waiting messages, in order of arrival
    {thread}:mail    hash    message id -> message, while it waits
    {thread}:early   list    the newest messages of a thread that is not ours (yet); minutes
    {thread}:seen:ID string  the message was stored before; a day
    {thread}:lease   string  token of the worker that holds the thread; seconds
    {thread}:turn    hash    the open turn: id, batch (fixed), progress (saved step by step), owner, takeovers, stop
    {thread}:head    hash    the thread map: ref of its twin on the engine; months
    {thread}:log     list    finished turns, for engines that forget; months
    tb:active        zset    held threads by the time at which somebody should look after them

All keys of a thread share one hash tag, so each script runs in one slot of a Cluster. The lease is given back in the
same script that finds the inbox empty: nothing is stranded between the last read and the release. Every write
compares the whole token, which is random: a worker that lost its lease can write nothing, also after a failover that
rolled counters back. A script whose answer got lost is sent again, so none does harm the second time.
"""

from __future__ import annotations

from bot.domain import ThreadKey
from bot.lua import Script

ACTIVE = "tb:active"
STOPS = "tb:stops"  # pub/sub: "THREAD TURN", somebody stopped it
HANDED_OVER = "tb:handed-over"  # pub/sub: threads wait to be taken up


def key(thread: ThreadKey | str, part: str) -> str:
    return f"tb:{{{thread}}}:{part}"


# --- what gateways do ------------------------------------------------------------------------------------------------

# KEYS seen inbox mail head early
# ARGV id message addressed seen_seconds keep_seconds has_files replies early_seconds early_lines
# 0: not our thread, or not yet. 1: seen before; a twin that brings files replaces one that waits without. 2: stored.
# Also whether lines of the thread came before it was ours.
PUT = Script(
    "put",
    """
if ARGV[3] == '0' and redis.call('EXISTS', KEYS[4]) == 0 then
  if ARGV[7] == '1' then
    redis.call('RPUSH', KEYS[5], ARGV[2])
    redis.call('LTRIM', KEYS[5], -ARGV[9], -1)
    redis.call('EXPIRE', KEYS[5], ARGV[8])
  end
  return {0, 0}
end
local early = redis.call('EXISTS', KEYS[5])
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[4]) then
  if ARGV[6] == '1' and redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then
    redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
  end
  return {1, early}
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('HSETNX', KEYS[4], 'since', ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[5])
return {2, early}
""",
)

# KEYS mail; ARGV id message
AMEND = Script(
    "amend",
    """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
""",
)

# KEYS seen inbox mail; ARGV id seen_seconds
WITHDRAW = Script(
    "withdraw",
    """
redis.call('SET', KEYS[1], '1', 'EX', ARGV[2])
redis.call('LREM', KEYS[2], 0, ARGV[1])
return redis.call('HDEL', KEYS[3], ARGV[1])
""",
)

# KEYS inbox mail turn; whether anything waited, and the id of the open turn
STOP = Script(
    "stop",
    """
local dropped = redis.call('DEL', KEYS[1], KEYS[2])
local turn = redis.call('HGET', KEYS[3], 'id')
if turn then redis.call('HSET', KEYS[3], 'stop', '1') end
return {dropped, turn or ''}
""",
)

# --- what workers do -------------------------------------------------------------------------------------------------

# Opens the waiting messages as a turn, or reads the turn that is open, or gives the lease back when there is neither.
# KEYS lease inbox mail turn head. Messages withdrawn meanwhile are gone from `mail`.
_TAKE = """
local function take(token)
  local ref = redis.call('HGET', KEYS[5], 'ref') or ''
  if redis.call('EXISTS', KEYS[4]) == 0 then
    local batch, first = {}, nil
    for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
      local message = redis.call('HGET', KEYS[3], id)
      if message then
        first = first or id
        batch[#batch + 1] = message
      end
    end
    redis.call('DEL', KEYS[2], KEYS[3])
    if not first then
      redis.call('DEL', KEYS[1])
      return {'empty'}
    end
    local messages = '[' .. table.concat(batch, ',') .. ']'
    redis.call('HSET', KEYS[4], 'id', first, 'batch', messages, 'owner', token)
    return {'new', first, messages, '', '', ref, 0}
  end
  if redis.call('HGET', KEYS[4], 'owner') ~= token then redis.call('HINCRBY', KEYS[4], 'takeovers', 1) end
  redis.call('HSET', KEYS[4], 'owner', token)
  local turn = redis.call('HMGET', KEYS[4], 'id', 'batch', 'progress', 'stop', 'takeovers')
  return {'resumed', turn[1], turn[2], turn[3] or '', turn[4] or '', ref, turn[5] or 0}
end
"""

# KEYS as take; ARGV token lease_ms
CLAIM = Script(
    "claim",
    _TAKE
    + """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {'busy'} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return take(ARGV[1])
""",
)

# KEYS lease turn head; ARGV token turn progress ref. A save that was overtaken by its turn's end changes nothing.
SAVE = Script(
    "save",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[2], 'id') ~= ARGV[2] then return 1 end
redis.call('HSET', KEYS[2], 'progress', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], 'ref', ARGV[4]) end
return 1
""",
)

# KEYS as take, and log; ARGV token turn exchange keep_seconds log_turns
FINISH = Script(
    "finish",
    _TAKE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
if redis.call('HGET', KEYS[4], 'id') == ARGV[2] then
  redis.call('DEL', KEYS[4])
  redis.call('EXPIRE', KEYS[5], ARGV[4])
  redis.call('RPUSH', KEYS[6], ARGV[3])
  redis.call('LTRIM', KEYS[6], -ARGV[5], -1)
  redis.call('EXPIRE', KEYS[6], ARGV[4])
end
return take(ARGV[1])
""",
)

# KEYS lease turn; ARGV token. Nobody owns the turn after that, so no late renewal takes it back.
RELEASE = Script(
    "release",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[2], 'owner')
return redis.call('DEL', KEYS[1])
""",
)

# KEYS lease turn parked; ARGV token keep_seconds. A turn nobody can read is kept for the operator, out of the way.
PARK = Script(
    "park",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[3])
  redis.call('EXPIRE', KEYS[3], ARGV[2])
end
return redis.call('DEL', KEYS[1])
""",
)

# KEYS lease turn; ARGV token lease_ms. Whether it is held, and the id of the turn if that was stopped.
# A lease that ran out unseen (Redis was away) is ours again when nobody took the turn meanwhile.
RENEW = Script(
    "renew",
    """
local holder = redis.call('GET', KEYS[1])
local turn = redis.call('HMGET', KEYS[2], 'owner', 'stop', 'id')
if holder ~= ARGV[1] and (holder or turn[1] ~= ARGV[1]) then return {0, ''} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, turn[2] and turn[3] or ''}
""",
)

# KEYS active; ARGV now then limit
DUE = Script(
    "due",
    """
local threads = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, thread in ipairs(threads) do redis.call('ZADD', KEYS[1], 'XX', ARGV[2], thread) end
return threads
""",
)

# KEYS active; ARGV thread score
FORGET = Script(
    "forget",
    """
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) == tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
""",
)
