"""YAML documents with a schema: corpus specs, training recipes; mistakes are one line that names the field.

document = read_document(document_path("demo", SPECS, "spec"), "Start from a shipped one.")
set_field(document, "film.width", "256")
spec = validated(CorpusSpec, document, "demo.yaml")
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from focuspull.dataset.errors import UserError

ModelT = TypeVar("ModelT", bound=BaseModel)


def document_path(name_or_path: str, shipped: Path, what: str, *, suffix: str = ".yaml") -> Path:
    """Where a document is.

    Args:
        name_or_path: A name without folder and ending of one in ``shipped``, or the path of any other.
        shipped: Folder of those that come with focuspull.
        what: What it is, for messages.
        suffix: Of those that come with focuspull.

    Raises:
        UserError: If there is none of that name.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml", suffix)):
        return Path(name_or_path)
    names = sorted(path.stem for path in shipped.glob(f"*{suffix}"))
    if name_or_path not in names:
        near = get_close_matches(name_or_path, names, 1)
        hint = (
            f"Did you mean '{near[0]}'?"
            if near
            else f"Use one of {', '.join(names)}, or a path to a {suffix.removeprefix('.').upper()} file."
        )
        raise UserError(f"{what}: '{name_or_path}' is unknown. {hint}")
    return shipped / f"{name_or_path}{suffix}"


def read_document(path: Path, hint: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: Of the file.
        hint: What to do if it holds something else.

    Raises:
        UserError: If it cannot be read, is not YAML or no mapping.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({getattr(error, 'strerror', error)}). Check the path."
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-13-45 is a bare ValueError
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", error)
        raise UserError(f"{path.name}{at}: is not valid YAML ({problem}). Mend the line.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path.name}: is not a mapping of fields. {hint}")
    return document


def validated(model: type[ModelT], document: Any, where: str) -> ModelT:
    """A document as a record.

    Args:
        model: Its schema.
        document: As YAML has it.
        where: What it is called in messages.

    Raises:
        UserError: If it does not follow the schema; the first problem.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, document, model)}") from None


def set_field(document: dict[str, Any], field: str, text: str) -> None:
    """Set a dotted field; the schema checks name and value afterwards.

    Args:
        document: Changed in place.
        field: Such as ``film.width`` or ``targets.0.k_at_1024``.
        text: The value as YAML.

    Raises:
        UserError: If the value is not YAML, or a part of the name leads nowhere.
    """
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"--{field}: '{text}' is not a YAML value. Quote it.") from None
    node: Any = document
    *parents, last = field.split(".")
    for name in parents:
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, dict):
            node = node.setdefault(name, {})
        else:
            raise UserError(f"--{field}: there is no '{name}' to set. Use dotted names as in the spec.")
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"--{field}: there is no '{last}' to set. Use dotted names as in the spec.")


def explain(error: ValidationError, document: Any, model: type[BaseModel]) -> str:
    """The first problem of a validation as one line: dotted field, what is wrong, what was found."""
    problems = error.errors(include_url=False)
    # A wrong key explains more than the missing one that it was meant to be.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path, names = _follow(first["loc"], document, model)
    field = ".".join(path)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        near = get_close_matches(path[-1], names, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known there: {', '.join(names)}."
        return f"unknown field '{field}'. {hint}"
    if first["type"] == "missing":
        return f"field '{field}' is missing. Add it."
    if first["type"] == "value_error":
        return f"{field}: {message}" if field else message
    if first["type"] == "union_tag_invalid":
        context = first.get("ctx", {})
        tag = context["discriminator"].strip("'")
        known = context["expected_tags"]
        return f"field '{field}.{tag}': '{context['tag']}' is unknown. Use one of: {known}."
    # YAML has lists where the records have tuples.
    return f"field '{field}': {message.replace('tuple', 'list')}, got {first['input']!r}"


def _follow(
    location: tuple[int | str, ...], document: Any, model: type[BaseModel]
) -> tuple[list[str], list[str]]:
    """The dotted path of a problem, and the fields that the record it is in may have.

    Pydantic puts names of union members between the fields of a location; what the document does not have
    there is left out.
    """
    path: list[str] = []
    records: list[type[BaseModel]] = [model]
    parents = records
    node = document
    for part in location:
        is_missing = part == location[-1] and str(part).isidentifier()
        if isinstance(node, dict) and (part in node or is_missing):
            parents = records
            records = [
                r for p in parents if part in p.model_fields for r in _records(p.model_fields[str(part)])
            ]
            node = node.get(part)
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        path.append(str(part))
        if isinstance(node, dict):
            kind = node.get("type", node.get("family"))
            records = [r for r in records if kind in _kinds(r)] or records
    return path, sorted({name for record in parents for name in record.model_fields})


def _records(field: FieldInfo) -> list[type[BaseModel]]:
    """The record types that a field's annotation mentions."""
    pending, found = [field.annotation], []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        pending += getattr(annotation, "__args__", ())
    return found


def _kinds(record: type[BaseModel]) -> tuple[Any, ...]:
    """The values of a record's ``type`` or ``family`` field."""
    field = record.model_fields.get("type") or record.model_fields.get("family")
    return getattr(field.annotation, "__args__", ()) if field else ()
