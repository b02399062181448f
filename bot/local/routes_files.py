"""/v1/files."""

from typing import Annotated, cast, get_args

from fastapi import APIRouter, Query
from openai.types import FileDeleted, FileObject
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bot.local import objects
from bot.local.errors import ApiError, bad_request
from bot.local.house import House
from bot.local.requests import FilePageQuery
from bot.local.wire import json_response, new_id

FilePage = Annotated[FilePageQuery, Query()]

_PURPOSES = get_args(FileObject.model_fields["purpose"].annotation)


def files(house: House, *, max_upload_bytes: int) -> APIRouter:
    routes = APIRouter(tags=["files"])

    @routes.post("/files", response_model=FileObject)
    async def upload_file(request: Request) -> Response:
        """Multipart with `file` and `purpose`. Goes to disk as it arrives; known only once it is there whole."""
        async with request.form(max_files=1, max_fields=20) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            if not isinstance(upload, UploadFile):
                raise bad_request("Missing required parameter: 'file'.", param="file")
            if purpose not in _PURPOSES:
                raise bad_request(f"'purpose' must be one of {', '.join(_PURPOSES)}.", param="purpose")
            if (upload.size or 0) > max_upload_bytes:
                raise ApiError(
                    413, f"The file is larger than the {max_upload_bytes} bytes this server accepts."
                )
            file_id = new_id("file-")
            size = await house.shelf.put(file_id, upload.file)
            name = (upload.filename or "file").replace("\\", "/").rpartition("/")[2][:255] or "file"
        now = house.runner.now()
        body = objects.file(file_id, filename=name, purpose=cast("str", purpose), size=size, now=now)
        await house.store.write(lambda tx: tx.insert("file", body, tag=body["purpose"]))
        return json_response(body)

    @routes.get("/files")
    async def list_files(query: FilePage) -> Response:
        return await house.read_page("file", query, tag=query.purpose)

    @routes.get("/files/{file_id}", response_model=FileObject)
    async def retrieve_file(file_id: str) -> Response:
        return json_response(await house.store.read(lambda tx: tx.need("file", file_id)))

    @routes.get("/files/{file_id}/content", response_class=StreamingResponse)
    async def file_content(file_id: str) -> Response:
        body = await house.store.read(lambda tx: tx.need("file", file_id))
        length = {"content-length": str(body["bytes"])}
        return StreamingResponse(
            house.shelf.read(file_id), media_type="application/octet-stream", headers=length
        )

    @routes.delete("/files/{file_id}", response_model=FileDeleted)
    async def delete_file(file_id: str) -> Response:
        await house.store.write(lambda tx: tx.delete("file", file_id))
        await house.shelf.remove(file_id)
        return json_response(objects.deleted("file", file_id))

    return routes
