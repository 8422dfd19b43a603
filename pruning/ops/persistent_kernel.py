"""What `persistent` runs on the GPU. Imported where Triton is alone."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def greedy(relevance, penalty, similarity, first, order, n, k, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """An instance picks k tokens of one row of relevance (L, N) by relevance - penalty · the closest kept one."""
    lane = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, BLOCK)
    inside = token < n
    worth = tl.load(relevance + lane * n + token, mask=inside, other=float("-inf"))
    weight = tl.load(penalty + lane * n + token, mask=inside, other=0.0)
    closest = tl.full((BLOCK,), float("-inf"), tl.float32)
    pick = tl.load(first).to(tl.int64)
    for step in range(k):
        tl.store(order + lane * k + step, pick)
        row = tl.load(similarity + pick * n + token, mask=inside, other=0.0)
        closest = tl.maximum(closest, row)
        worth = tl.where(token == pick, float("-inf"), worth)
        pick = tl.argmax(worth - weight * closest, 0).to(tl.int64)
