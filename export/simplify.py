"""Takes out of a graph what computes nothing: it would cost time at every load, and hides the network from a reader.

onnxscript's rules and onnx_ir's passes do the work, but only those after which every result is the same to the bit
and the batch is still free. Not `onnxscript.optimizer.optimize`: it also folds constants and rewrites what computes.
"""

from collections import Counter

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
    TopologicalSortPass,
)

_ROUNDS = 10  # at most; each may find what the one before made possible


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph without Identity, Casts to the type a tensor has, pairs of Transposes, Expands that
    broadcasting does anyway, and nodes whose outputs are then unused. Every node comes after those that it reads.

    Keeps an Expand that makes a shape: folding it would fix the batch size.
    """
    from onnxscript.rewriter import RewritePass
    from onnxscript.rewriter.rules import common as rules

    rewriting = RewritePass(
        [
            *(rules.no_op_cast_rule, rules.no_op_transpose_rule, rules.transpose_transpose_rule),
            *rules.expand_before_binary_op_rules,
        ]
    )
    unused = (IdentityEliminationPass(), RemoveUnusedNodesPass(), RemoveUnusedOpsetsPass())
    passes = [TopologicalSortPass(), rewriting, *unused, ClearMetadataAndDocStringPass()]
    graph = ir.from_proto(model)
    if "ai.onnx" in graph.opset_imports:  # the other name of the domain "", by which the passes know it
        graph.opset_imports[""] = graph.opset_imports.pop("ai.onnx")
    return ir.to_proto(ir.passes.PassManager(passes, steps=_ROUNDS)(graph).model)


def superfluous_nodes(model: onnx.ModelProto) -> list[str]:
    """How many nodes of each operator `simplify` takes out: `2 Transpose`."""
    before, after = (Counter(node.op_type for node in graph.graph.node) for graph in (model, simplify(model)))
    return [f"{count} {operator}" for operator, count in (before - after).items()]
