# SPDX-License-Identifier: Apache-2.0
"""The corpus of bad and hostile models, and what the gates must say of each."""

from __future__ import annotations

import onnx

from tests.model.hostile import (
    ASKED_FOR,
    DIVIDING,
    DOUBLING,
    GROWING,
    HUGE,
    PLAIN,
    Hostile,
    body,
    constant_input,
    dense,
    endlessly_nested,
    external,
    folder_for_file,
    functions,
    hard_link,
    holding,
    library,
    linked_devices,
    linked_file,
    linked_folder,
    loop,
    nested,
    newer,
    pipe,
    renamed,
    set_to,
    sparse,
    twice_imported,
    two_weights,
    weight,
    without,
)

WEIGHT_FILE = "model.onnx.data"

WHOLE = onnx.parser.parse_model(PLAIN).SerializeToString()

REFUSED_UNOPENED = [
    # what is no model
    Hostile("text", "is not an ONNX model: it is no protobuf message", data=b"not a model, but a text\n" * 9),
    Hostile("empty file", "is not an ONNX model: the file is empty", data=b""),
    Hostile("cut off", "it was cut off, 3 bytes are missing", data=WHOLE[:-9]),
    Hostile("named pipe", "is no regular file", files=pipe("model.onnx")),
    Hostile("nested beyond any reader", "nest deeper than any reader", data=endlessly_nested()),
    Hostile(
        "names that are no text",
        r"the name b'Mat\\xfful' is no text",
        data=WHOLE.replace(b"\x06MatMul", b"\x06Mat\xfful"),
    ),
    Hostile("empty graph", "its graph is empty", change=lambda model: model.graph.ClearField("node")),
    # structure
    Hostile("no outputs", "the graph has no outputs", change=without("output")),
    Hostile("no inputs", "the graph has no inputs", change=constant_input),
    Hostile("circle", r"goes round in a circle: 'b' <- 'a' <- 'b'", body("a = Add (x, b) b = Relu (a) y = Relu (b)")),
    Hostile("name made twice", r"the name 'a' is given twice", body("a = Relu (x) a = Abs (x) y = MatMul (a, w)")),
    Hostile("weight twice", r"two weights are called 'w'", change=two_weights),
    Hostile("input from nowhere", r"uses 'z', which is no input", body("y = MatMul (z, w)")),
    Hostile("unsorted", r"uses 'a' before it is made", body("y = Relu (a) a = Relu (x)")),
    Hostile("output from nowhere", r"nothing in the graph makes its output 'y'", body("z = MatMul (x, w)")),
    Hostile("nested", r"nested 25 deep \(limit 16\)", nested(25)),
    Hostile("path as a name", r"tensor name '\.\./\.\./\.\./home/user/\.bashrc'", change=renamed),
    Hostile(
        "recursive function", "call themselves: first -> first", functions("first (a) => (b) { b = mine.first (a) }")
    ),
    Hostile(
        "functions that grow",
        r"grow to 531,441 operators .*limit 500,000",
        body("y = mine.f0 (x)", opsets=', "mine" : 1', tail=GROWING),
    ),
    # versions
    Hostile("opset", "opset 27, IR version 10; .* up to opset 26", change=newer),
    Hostile("file format", "IR version 14; .* and IR version 13", change=set_to(ir_version=14)),
    Hostile("file format of before", "IR version 2 is too old", change=set_to(ir_version=2)),
    Hostile("opset of ai.onnx.ml", r"ai\.onnx\.ml opset 6", body("y = MatMul (x, w)", opsets=', "ai.onnx.ml" : 6')),
    Hostile("two opsets", "names two opsets of the domain 'ai.onnx'", change=twice_imported),
    # operators
    Hostile("foreign", r"domains \['acme'\] need code", body("y = acme.Sharpen (x)", opsets=', "acme" : 1')),
    Hostile(
        "foreign in a branch",
        r"domains \['acme'\] need code",
        body(
            "y = If (yes) <then_branch = a () => (float[batch, 3] t) { t = acme.Sharpen (x) }, "
            "else_branch = b () => (float[batch, 3] e) { e = Identity (x) }>",
            weights="bool yes = {1},",
            opsets=', "acme" : 1',
        ),
    ),
    Hostile(
        "foreign in a function",
        r"domains \['acme'\] need code",
        functions("first (a) => (b) { b = acme.Sharpen (a) }"),
    ),
    Hostile(
        "function under a known name",
        "its local function Relu takes a name in ONNX's own domain",
        body("y = Relu (x)", tail='<domain: "", opset_import: ["" : 18]>\nRelu (a) => (b) { b = Neg (a) }'),
    ),
    Hostile("unknown operators", "opset 18 has no operator Blur, Gelu", body("a = Blur (x) y = Gelu (a)")),
    Hostile(
        "program for a device",
        "EPContext bring programs of their own",
        body('y = com.microsoft.EPContext <ep_cache_context = "/tmp/a"> (x)', opsets=', "com.microsoft" : 1'),
    ),
    Hostile("library in the metadata", r"names the library '\./libevil\.so'", change=library),
    Hostile("division by zero", "attribute group = 0 is out of range", body("y = ConvTranspose <group = 0> (x, w)")),
    Hostile("endless equation", r"equation = '\.\.\.\.' is out of range", body('y = Einsum <equation = "...."> (x)')),
    Hostile("axis", r"types or shapes do not fit: .*Concat", body("y = Concat <axis = 9> (x, x)")),
    # weights
    Hostile("short weight", r"is 36 bytes, but the file holds 5", change=weight(float_data=None, raw_data=b"12345")),
    Hostile("weight of nothing", r"\[1099511627776, 3\].* but the file holds 9", change=weight(dims=[HUGE, 3])),
    Hostile("negative weight", r"has a negative size: \[-3, 3\]", change=weight(dims=[-3, 3])),
    Hostile("weight of no type", "has the element type 77, which is none", change=weight(data_type=77)),
    Hostile("weight with two values", "holds its values twice", change=weight(raw_data=bytes(36))),
    Hostile("sparse weight", r"its weights need 4\.0 TiB of memory", change=dense(HUGE)),
    # types and shapes
    Hostile("types", "types or shapes do not fit: .*Add", body("a = Cast <to = 7> (x) y = Add (a, x)")),
    Hostile("weight's shape", "types or shapes do not fit: .*MatMul", change=weight(dims=[9, 1])),
    Hostile(
        "declared shape",
        r"declared as float \['batch', 7\], but the graph makes float \['batch', 3\]",
        PLAIN.replace("3] y", "7] y"),
    ),
    Hostile(
        "declared type",
        r"declared as int64 .* but the graph makes float",
        PLAIN.replace("float[batch, 3] y", "int64[batch, 3] y"),
    ),
    # external data
    Hostile("data in the folder above", r"'\.\./a' .*leads out of the model's folder", change=external("../a")),
    Hostile("data at an absolute path", "'/etc/passwd' .*is an absolute path", change=external("/etc/passwd")),
    Hostile("data linked", "is a link to another file", change=external(), files=linked_file),
    Hostile("data hard linked", "is a hard link: 2 names", change=external(), files=hard_link),
    Hostile("data in a linked folder", "leads through 'sub'", change=external("sub/passwd"), files=linked_folder),
    Hostile("data of a device", "leads through 'sub'", change=external("sub/zero"), files=linked_devices),
    Hostile("data of a pipe", "is no regular file", change=external(), files=pipe(WEIGHT_FILE)),
    Hostile("data of a folder", "is no regular file", change=external(), files=folder_for_file),
    Hostile("data missing", "cannot be read: No such file", change=external()),
    Hostile(
        "data beyond the end",
        "ends at byte 1,036, but the file has 36",
        change=external(offset=1000),
        files=holding(36),
    ),
    Hostile("data before the start", "gives 36 bytes at -4", change=external(offset=-4), files=holding(36)),
    Hostile("data of another length", "gives 8 bytes at 0, its type", change=external(length=8), files=holding(36)),
    Hostile("data at no number", "that is no number", change=external(offset="0x10"), files=holding(36)),
    Hostile("data of 500 GB", r"has 465\.7 GiB \(limit", change=external(), files=sparse(500 * 10**9)),
    Hostile("data of holes", r"is sparse: it claims 64\.0 MiB and has", change=external(), files=sparse(64 << 20)),
    Hostile("data in memory", "is an address in the memory", change=external("*/_ORT_MEM_ADDR_/*", offset=4096)),
    # memory
    *(
        Hostile(
            name,
            rf"'t' of a {operator} takes .* for one row",
            body(f"t = {nodes} r = ReduceMax <keepdims = 0> (t) y = Add (x, r)", weights=weights),
        )
        for name, operator, nodes, weights in [
            ("bomb of a constant", "ConstantOfShape", "ConstantOfShape (s)", f"int64[2] s = {{{HUGE}, 3}},"),
            ("bomb by expanding", "Expand", "Expand (x, s)", f"int64[3] s = {{{HUGE}, 1, 1}},"),
            ("bomb by tiling", "Tile", "Tile (x, s)", f"int64[2] s = {{1, {HUGE}}},"),
            (
                "bomb by counting",
                "Range",
                "Range (a, b, c)",
                f"float a = {{0}}, float b = {{{HUGE}}}, float c = {{1}},",
            ),
            ("bomb by padding", "Pad", "Pad (x, s)", f"int64[4] s = {{0, 0, 0, {HUGE}}},"),
            ("bomb of noise", "RandomNormal", f"RandomNormal <shape = [{HUGE}, 3]> ()", ""),
            (
                "bomb of classes",
                "OneHot",
                "OneHot (i, n, v)",
                f"int64[1] i = {{1}}, int64 n = {{{HUGE}}}, float[2] v = {{0, 1}},",
            ),
        ]
    ),
    # loops
    Hostile("endless loop", "never ends: .*and it has no bound", loop("Identity (before)")),
    Hostile(
        "loop of all numbers",
        "would run 9,223,372,036,854,775,807 rounds",
        loop("Identity (before)", bound="most", condition='""'),
    ),
]
"""Refused by looking: ONNX Runtime never sees them."""

REFUSED_RUNNING = [
    Hostile("NaN weight", "the weight 'w' holds NaN", change=weight(float_data=[float("nan")] * 9)),
    Hostile(
        "NaN answers",
        r"at batch size 1: 36 of 36 values of the output y are nan",
        body("a = Sub (x, x) y = Div (a, a)"),
    ),
    Hostile(
        "infinite answers",
        r"values of the output y are inf",
        body("a = Mul (x, big) y = Exp (a)", weights="float big = {1e9},"),
    ),
    Hostile(
        "batch of one behind a name",
        "does not run at batch size 2: .*Reshape",
        body("a = Reshape (x, s) y = MatMul (a, w)", weights="int64[2] s = {1, 3},"),
    ),
    Hostile(
        "rows lost",
        r"y is declared as float \['batch', 3\], but for 2 rows it gives the shape \[1, 3\]",
        body("a = MatMul (x, w) y = ReduceMax <keepdims = 1> (a, first)", weights="int64[1] first = {0},"),
    ),
    Hostile(
        "rows that depend on each other",
        r"at batch size 2: numbers differ",
        body(
            "a = MatMul (x, w) b = ReduceMean <keepdims = 1> (a, first) c = Sub (a, b) y = Add (a, c)",
            weights="int64[1] first = {0},",
        ),
    ),
    Hostile(
        "shape hidden from inference",
        r"declared as float \['batch', 7\], but for 1 rows it gives the shape \[1, 3\]",
        body("y = com.microsoft.Gelu (x)", opsets=', "com.microsoft" : 1').replace("3] y", "7] y"),
    ),
    Hostile(
        "operator that ONNX Runtime lacks",
        "ONNX Runtime cannot load .*NoSuchOperator",
        body("y = com.microsoft.NoSuchOperator (x)", opsets=', "com.microsoft" : 1'),
    ),
    Hostile("noise", "numbers differ by up to", body("a = RandomNormalLike (x) b = MatMul (x, w) y = Add (a, b)")),
    Hostile(
        "other weights",
        r"numbers differ by up to .* and [0-9.]+% of the labels agree",
        change=weight(float_data=[float(number) for number in range(9)]),
    ),
]
"""Sound to look at; refused when they run."""

COSTLY = [
    Hostile("doubling", "it needs more than memory_mb=1024: ", DOUBLING),
    Hostile("size from outside", "it needs more than memory_mb=1024: ", ASKED_FOR),
    Hostile("crash", r"it ended the process that ran it by SIGFPE \(memory_mb=1024", DIVIDING),
]
"""What only a process with limits may be asked about."""

ENDLESS = Hostile(
    "loop that its inputs keep going",
    r"it did not load and run within stage_timeout=5 s and was killed\. A graph may loop for ever",
    loop("GreaterOrEqual (top, top)"),
)
