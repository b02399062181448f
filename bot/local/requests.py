"""What callers may send. Unknown fields are ignored, as the hosted API's SDKs grow faster than servers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from bot.local.tx import Page
from bot.local.wire import Body

# openai-openapi, schema Metadata: 16 pairs, keys of 64 and values of 512 characters at most.
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
ObjectId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Request(BaseModel):
    model_config = ConfigDict(extra="ignore")

    def given(self) -> Body:
        """Only what the caller set, for modifications."""
        return self.model_dump(exclude_unset=True)


class PageQuery(Request):
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None

    def page(self) -> Page:
        return Page(self.limit, self.order, self.after, self.before)


class MessagePageQuery(PageQuery):
    run_id: str | None = None


class FilePageQuery(PageQuery):
    limit: int = Field(10_000, ge=1, le=10_000)
    purpose: str | None = None


class Function(Request):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Request):
    type: Literal["function"]
    function: Function


class CodeInterpreterTool(Request):
    type: Literal["code_interpreter"]


class RankingOptions(Request):
    ranker: Literal["auto", "default_2024_08_21"] | None = None
    score_threshold: float = Field(0, ge=0, le=1)


class FileSearch(Request):
    max_num_results: int | None = Field(None, ge=1, le=50)
    ranking_options: RankingOptions | None = None


class FileSearchTool(Request):
    type: Literal["file_search"]
    file_search: FileSearch | None = None


Tool = Annotated[FunctionTool | CodeInterpreterTool | FileSearchTool, Field(discriminator="type")]
Tools = Annotated[list[Tool], Field(max_length=128)]


class CodeInterpreterResources(Request):
    file_ids: list[ObjectId] = Field(default_factory=list, max_length=20)


class FileSearchResources(Request):
    vector_store_ids: list[ObjectId] = Field(default_factory=list, max_length=1)


class ToolResources(Request):
    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None


class TextFormat(Request):
    type: Literal["text", "json_object"]


class JsonSchema(Request):
    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Request):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Literal["auto"] | Annotated[TextFormat | JsonSchemaFormat, Field(discriminator="type")]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class AssistantFields(Request):
    model: str | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    description: Annotated[str, StringConstraints(max_length=512)] | None = None
    instructions: Annotated[str, StringConstraints(max_length=256_000)] | None = None
    tools: Tools = Field(default_factory=list)
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    reasoning_effort: Effort | None = None
    response_format: ResponseFormat | None = None

    def body(self) -> Body:
        """Only what was set, in the shape of an assistant."""
        fields = self.model_dump(exclude_unset=True, by_alias=True)
        if "tools" in fields:
            fields["tools"] = [tool.model_dump() for tool in self.tools]
        if self.tool_resources is not None:
            fields["tool_resources"] = self.tool_resources.model_dump(exclude_none=True)
        if fields.get("metadata", 0) is None:
            fields["metadata"] = {}
        return fields


class TextPart(Request):
    type: Literal["text"]
    text: str


class ImageFile(Request):
    file_id: ObjectId
    detail: Literal["auto", "low", "high"] = "auto"


class ImageFilePart(Request):
    type: Literal["image_file"]
    image_file: ImageFile


class ImageUrl(Request):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImageUrlPart(Request):
    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = Annotated[TextPart | ImageFilePart | ImageUrlPart, Field(discriminator="type")]


class AttachmentTool(Request):
    type: Literal["code_interpreter", "file_search"]


class Attachment(Request):
    file_id: ObjectId
    tools: list[AttachmentTool] = Field(default_factory=list)


class NewMessage(Request):
    role: Literal["user", "assistant"]
    content: str | list[ContentPart]
    attachments: list[Attachment] | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "NewMessage":
        if not self.content:
            raise ValueError("Message content must be non-empty.")
        return self

    def parts(self) -> list[Body]:
        """In the shape of responses, where a text part is an object with annotations."""
        if isinstance(self.content, str):
            return [_text(self.content)]
        return [
            _text(part.text) if isinstance(part, TextPart) else part.model_dump() for part in self.content
        ]

    def attached(self) -> list[Body]:
        return [attachment.model_dump() for attachment in self.attachments or ()]

    def files(self) -> list[str]:
        """Every file the message refers to."""
        parts = self.content if not isinstance(self.content, str) else []
        images = [part.image_file.file_id for part in parts if isinstance(part, ImageFilePart)]
        return images + [attachment.file_id for attachment in self.attachments or ()]


class ThreadFields(Request):
    messages: list[NewMessage] | None = None
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None


class MetadataChange(Request):
    metadata: Metadata | None = None

    def changes(self) -> Body:
        return {"metadata": self.metadata or {}} if "metadata" in self.model_fields_set else {}


class ThreadChange(MetadataChange):
    tool_resources: ToolResources | None = None

    def changes(self) -> Body:
        changes = super().changes()
        if self.tool_resources is not None:
            changes["tool_resources"] = self.tool_resources.model_dump(exclude_none=True)
        return changes


class Truncation(Request):
    type: Literal["auto", "last_messages"]
    last_messages: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _says_how_many(self) -> "Truncation":
        if self.type == "last_messages" and self.last_messages is None:
            raise ValueError("last_messages must say how many messages to keep.")
        return self


class ChoiceFunction(Request):
    name: str


class ToolChoice(Request):
    type: Literal["function", "code_interpreter", "file_search"]
    function: ChoiceFunction | None = None


class RunFields(Request):
    assistant_id: ObjectId
    model: str | None = None
    instructions: Annotated[str, StringConstraints(max_length=256_000)] | None = None
    additional_instructions: str | None = None
    additional_messages: list[NewMessage] | None = None
    tools: Tools | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    reasoning_effort: Effort | None = None
    stream: bool | None = None
    max_prompt_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    truncation_strategy: Truncation | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None

    def body(self) -> Body:
        """In the shape `objects.run` takes."""
        fields = self.model_dump(by_alias=True, exclude={"additional_messages", "stream", "assistant_id"})
        if isinstance(self.response_format, JsonSchemaFormat):
            fields["response_format"] = self.response_format.model_dump(by_alias=True)
        return fields


class ThreadAndRunFields(RunFields):
    """`tools_resources` of a run go to its new thread, as a run has none of its own."""

    thread: ThreadFields | None = None
    tool_resources: ToolResources | None = None


class ToolOutput(Request):
    tool_call_id: str
    output: str = ""


class ToolOutputs(Request):
    tool_outputs: list[ToolOutput]
    stream: bool | None = None


def _text(value: str) -> Body:
    return {"type": "text", "text": {"value": value, "annotations": []}}
