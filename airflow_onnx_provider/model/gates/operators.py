# SPDX-License-Identifier: Apache-2.0
"""Gate: only operators that ONNX Runtime brings itself, in versions that it knows, with no code of their own."""

from __future__ import annotations

import re
from typing import Any

from airflow_onnx_provider.model.gates.limits import Limits
from airflow_onnx_provider.model.gates.reading import OnnxFile, canonical, nodes
from airflow_onnx_provider.model.gates.structure import function_called, local_functions

ML = "ai.onnx.ml"

OLDEST_IR_VERSION = 3
"""Before this one, a file did not say which operators it means."""

CARRIERS = {"EPContext", "PythonOp", "PythonOpGrad", "ATen", "TRT_EngineOp"}
"""Operators that are a box for something else: a program compiled for one device, a Python function, a library call."""

POSITIVE = {"group", "num_groups", "blocksize"}
"""Attributes that operators divide by: ONNX Runtime 1.31 ends the whole process for a ConvTranspose with group 0."""

_TERM = r"[A-Za-z ]*(\.\.\.)?[A-Za-z ]*"
EQUATION = re.compile(rf"{_TERM}(,{_TERM})*(->{_TERM})?")
"""What an Einsum may compute; onnx 1.23 looks at four dots for ever."""

_LIBRARY = re.compile(r"\.(so|dll|dylib)\b", re.IGNORECASE)


def require_versions(file: OnnxFile, limits: Limits) -> None:
    """Operator sets and file format that ONNX Runtime takes.

    :raises ValidationError: naming the version and the way out
    """
    model = file.model
    if model.ir_version < OLDEST_IR_VERSION:
        raise file.refuse(
            f"IR version {model.ir_version} is too old, or the file does not say which it has; convert the model anew"
        )
    for owner, imports in (("", model.opset_import), *((one.name, one.opset_import) for one in model.functions)):
        versions: dict[str, int] = {}
        for entry in imports:
            domain = canonical(entry.domain)
            if versions.setdefault(domain, entry.version) != entry.version:
                raise file.refuse(f"{owner} names two opsets of the domain {domain or 'ai.onnx'!r}".strip())
        opset, ml_opset = versions.get("", 0), versions.get(ML, 0)
        if opset > limits.opset or ml_opset > limits.ml_opset or model.ir_version > limits.ir_version:
            also = f", {ML} opset {ml_opset}" if ml_opset > limits.ml_opset else ""
            raise file.refuse(
                f"opset {opset}{also}, IR version {model.ir_version}; ONNX Runtime takes up to opset {limits.opset}, "
                f"{ML} opset {limits.ml_opset} and IR version {limits.ir_version}. Convert with an older opset (18 is "
                "safe)."
            )


def require_domains(file: OnnxFile, allowed: tuple[str, ...]) -> None:
    """Each node, inside branches and local functions too, is of an allowed domain or calls a local function.

    :raises ValidationError: naming the domains, or the local function that goes by the name of an operator
    """
    functions = local_functions(file.model)
    for domain, name, _ in functions:
        if domain in ("", ML, "com.microsoft"):
            raise file.refuse(
                f"its local function {name} takes a name in ONNX's own domain {domain or 'ai.onnx'!r}, where the "
                "reader expects the operator that everyone knows"
            )
    foreign = {canonical(node.domain) for node in nodes(file.model) if function_called(node) not in functions} - set(
        allowed
    )
    if foreign:
        raise file.refuse(
            f"operators of the domains {sorted(foreign)} need code that ONNX Runtime does not bring; "
            f"allowed: {[domain or 'ai.onnx' for domain in allowed]}"
        )


def require_known_operators(file: OnnxFile) -> None:
    """Each operator of ONNX's own domains exists in the opset that the file names.

    :raises ValidationError: with all that do not
    """
    import onnx

    functions = local_functions(file.model)
    imports = {canonical(entry.domain): entry.version for entry in file.model.opset_import}
    for owner in file.model.functions:
        for entry in owner.opset_import:
            imports.setdefault(canonical(entry.domain), entry.version)
    for domain in ("", ML):
        unknown = {
            node.op_type
            for node in nodes(file.model)
            if canonical(node.domain) == domain
            and function_called(node) not in functions
            and not onnx.defs.has(node.op_type, imports.get(domain, 0), domain)
        }
        if unknown:
            raise file.refuse(
                f"{domain or 'ONNX'} opset {imports.get(domain, 0)} has no operator {', '.join(sorted(unknown))}. The "
                "converter could not express this part of the source model; replace the layer, or move it out of "
                "the model."
            )


def require_no_foreign_code(file: OnnxFile) -> None:
    """No operator that carries a program, and no library that the file would like to be loaded.

    :raises ValidationError: naming it
    """
    if carriers := sorted({node.op_type for node in nodes(file.model)} & CARRIERS):
        raise file.refuse(f"{', '.join(carriers)} bring programs of their own into the graph; export it without them")
    for entry in file.model.metadata_props:
        if _LIBRARY.search(entry.value) or "custom_op" in entry.key.lower():
            raise file.refuse(
                f"its metadata {entry.key[:80]!r} names the library {entry.value[:80]!r}. No library that comes with a "
                "model is ever loaded; if the model works without it, remove the entry"
            )


def require_safe_attributes(file: OnnxFile) -> None:
    """No attribute on which ONNX or ONNX Runtime are known to end or hang the process.

    :raises ValidationError: naming the operator and the attribute
    """
    for node in nodes(file.model):
        for attribute in node.attribute:
            if attribute.name in POSITIVE and attribute.HasField("i") and attribute.i < 1:
                raise _out_of_range(file, node, attribute.name, attribute.i)
            if node.op_type == "Einsum" and attribute.name == "equation":
                equation = attribute.s.decode(errors="replace")
                if not EQUATION.fullmatch(equation):
                    raise _out_of_range(file, node, attribute.name, equation[:80])


def _out_of_range(file: OnnxFile, node: Any, attribute: str, value: int | str) -> Exception:
    what = f"the operator {node.op_type} {node.name}".rstrip()
    return file.refuse(f"{what}: the attribute {attribute} = {value!r} is out of range")
