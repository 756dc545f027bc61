"""The order of a graph's nodes: ONNX wants each behind what it reads, and ONNX Runtime does not insist.

The usual converters to float16 append the Casts of inputs at the end, for instance.
"""

import heapq

import onnx

from export.simplify import all_graphs


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put each node behind those that it reads from, otherwise in the order of before; not if they form a circle."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    waits_for = [{makers[name] for name in _read(node) if name in makers} for node in graph.node]
    readers: list[list[int]] = [[] for _ in graph.node]
    for number, needed in enumerate(waits_for):
        for other in needed:
            readers[other].append(number)
    ready = [number for number, needed in enumerate(waits_for) if not needed]  # in order, and so a heap
    order = []
    while ready:
        order.append(number := heapq.heappop(ready))
        for reader in readers[number]:
            waits_for[reader].discard(number)
            if not waits_for[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(graph.node) or order == sorted(order):
        return
    nodes = [onnx.NodeProto.FromString(graph.node[number].SerializeToString()) for number in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _read(node: onnx.NodeProto) -> set[str]:
    """The tensors that the node reads, and those that graphs inside it take from around it."""
    alone = onnx.GraphProto(node=[node])
    return {name for graph in all_graphs(alone) for inner in graph.node for name in inner.input} | {
        output.name for graph in all_graphs(alone) for output in graph.output
    }
