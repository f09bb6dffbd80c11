# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from airflow_onnx_provider.model.rewriting.nodes import in_order, used_names, weights_of

BRANCHES = """
<ir_version: 10, opset_import: ["" : 18]>
network (float[3] x, bool which, float[3] outer) => (float[3] y)
<float[3] weight = {1, 2, 3}>
{
  unused = Relu (x)
  late = Neg (weight)
  y = If (which) <
    then_branch = a () => (float[3] t) { inner = Add (x, outer) t = Relu (inner) },
    else_branch = b () => (float[3] e) { e = Mul (x, late) }
  >
}
"""


def test_a_node_uses_what_its_branches_take_from_around_it() -> None:
    import onnx

    graph = onnx.parser.parse_model(BRANCHES).graph
    assert list(used_names(graph.node[2])) == ["which", "x", "outer", "late"]


def test_nodes_come_right_before_their_use_and_only_if_they_have_one() -> None:
    import onnx

    model = onnx.parser.parse_model(BRANCHES)
    assert [node.output[0] for node in in_order(model.graph, weights_of(model))] == ["late", "y"]


def test_constants_are_weights() -> None:
    import onnx

    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g () => (float[1] y) { c = Constant <value = float[1] {2}> () '
        "y = Relu (c) }"
    )
    assert np.array_equal(onnx.numpy_helper.to_array(weights_of(model)["c"]), [2])
    assert [node.output[0] for node in in_order(model.graph, weights_of(model))] == ["y"]
