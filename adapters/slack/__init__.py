"""Slack: `gateway` hears (Socket Mode or signed HTTP), `outlet` speaks (Web API), `wire` reads payloads."""
