"""The concrete-score transformer: bidirectional or block-causal, rotary, conditioned by adaLN-zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discdiff.errors import IncompatibleError
from discdiff.networks.attention import Backend, check_backend, choose
from discdiff.networks.base import Context, Network
from discdiff.networks.block_pass import BlockPass, check_blocks, check_size
from discdiff.networks.kernels import Request
from discdiff.networks.layers import (
    Block,
    Gelu,
    NoiseEmbedding,
    Norm,
    embedding,
    full_precision,
    linear,
    modulate,
    product_dtype,
    recomputed,
    rotary_tables,
    wide,
)
from discdiff.networks.linear_head import LinearHead
from discdiff.networks.tail import after_last, before_last, splits
from discdiff.networks.visibility import Visibility

if TYPE_CHECKING:
    from discdiff.parameterizations import Parameterization
    from discdiff.processes.base import Process


class Transformer(Network):
    """Noised tokens → logits: bidirectional pre-norm attention with rotary positions, conditioned by adaLN-zero.

    `h ← h + g₁·Attn(mix((1 + c₁)·LN(h) + s₁))`, `h ← h + g₂·MLP(mix((1 + c₂)·LN(h) + s₂))`, where (s, c, g) are linear
    in `silu(MLP([cos σf | sin σf])) + silu(label)` and start at zero, so every block starts as the identity (Peebles
    and Xie 2023, section 3.2; Lou et al. 2024, appendix C); mix is `LocalMixing`, the identity at first. A time-free
    network without labels has plain affine norms and no gates (RADD, Ou et al. 2024). The head starts at zero: all
    logits are equal.

    The network is built by `configure`, from a generator of its own: the global random state is neither read nor
    advanced, except by dropout (`dropout > 0`, in training), which torch draws from its global generator.

    Args:
        num_states: S, rows of the token embedding: content tokens, plus the mask where the process has one.
        dim: width, a multiple of `2 * heads`.
        depth: blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over `dim`.
        dropout: probability, on what each branch adds to the stream.
        num_labels: classes; the null label (-1) is one more, in row 0 of the table. None: no label conditioning.
        cond_dim: width of the embeddings of noise and label.
        seed: of the initialisation.
        kernel: how many neighbouring positions (odd, its own included) each one is mixed with before attention and MLP,
            see `discdiff.networks.layers.LocalMixing`; 0 for none, as in published weights.
        gelu: of the MLP: "exact" (on CPU four times as fast), or "tanh", the approximation of published weights.
        backend: of the attention, see `discdiff.networks.attention`.
        pack: leave padding out of all layers where the context has a `packing`; None does so where the attention has
            a kernel of variable length. A block-causal network never does.
        block_size: positions of a block of a block-causal network: a position sees its own block, and the clean tokens
            of earlier ones. For `losses.Blockwise` and `samplers.Blockwise`. None: every position sees every other.

    Example:
        >>> import torch, discdiff as dd
        >>> process = dd.Absorbing(4)
        >>> network = dd.Transformer(process.num_states, dim=32, depth=2, heads=2)
        >>> model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
        >>> network.head(network.hidden(torch.tensor([[0, 4, 2]]), None, dd.Context())).shape
        torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        num_states: int,
        dim: int = 256,
        depth: int = 6,
        heads: int = 4,
        *,
        mlp_ratio: float = 4,
        dropout: float = 0.0,
        num_labels: int | None = None,
        cond_dim: int = 128,
        seed: int = 0,
        kernel: int = 9,
        gelu: Gelu = "exact",
        backend: str = "auto",
        pack: bool | None = None,
        block_size: int | None = None,
    ) -> None:
        super().__init__()
        if min(num_states, dim, depth, heads) < 1 or dim % (2 * heads):
            raise IncompatibleError(
                "transformer size",
                got=f"num_states={num_states}, dim={dim}, depth={depth}, heads={heads}",
                expected="positive integers with dim a multiple of 2 * heads (rotary positions pair channels)",
                remedy=f"Try dim={max(1, round(dim / (2 * max(heads, 1)))) * 2 * max(heads, 1)}",
            )
        if not 0.0 <= dropout < 1.0:
            raise IncompatibleError("dropout", got=dropout, expected="0 <= dropout < 1", remedy="0.1 is usual")
        if num_labels is not None and num_labels < 1:
            raise IncompatibleError("num_labels", got=num_labels, expected="at least 1", remedy="None means no labels")
        if kernel and (kernel < 0 or kernel % 2 == 0):
            raise IncompatibleError(
                "kernel", got=kernel, expected="0 or an odd number", remedy="9 sees 4 to either side"
            )
        if gelu not in get_args(Gelu):
            raise IncompatibleError("gelu", got=repr(gelu), expected='"exact" or "tanh"', remedy="Leave it out")
        check_size("Transformer: block_size", block_size)
        if block_size is not None and backend not in ("auto", "sdpa"):
            raise IncompatibleError(
                "Block-causal Transformer", got=f"backend {backend!r}", expected="auto or sdpa", remedy="Leave it out"
            )
        check_backend(backend)
        self.block_size = block_size
        self.num_states, self.dim, self.depth, self.heads = num_states, dim, depth, heads
        self.mlp_ratio, self.dropout, self.num_labels = mlp_ratio, dropout, num_labels
        self.cond_dim, self.seed, self.kernel, self.gelu, self.backend = cond_dim, seed, kernel, gelu, backend
        self.pack = pack
        self._checkpointing = False
        self._built: tuple[int, bool] | None = None  # num_outputs, time-conditioned

    def configure(self, process: Process, parameterization: Parameterization) -> None:
        """Build and initialise the layers. A second call that asks for the same changes nothing.

        Raises:
            IncompatibleError: the process has other states, or the network was configured otherwise before.
        """
        if process.num_states != self.num_states:
            raise IncompatibleError(
                "Transformer and process",
                got=f"num_states={self.num_states}",
                expected=f"{process.num_states} (the states of {type(process).__name__})",
                remedy="Build it as Transformer(process.num_states, ...)",
            )
        if self.block_size is not None and not process.reveals_noise:
            raise IncompatibleError(
                "Block-causal Transformer",
                got=type(process).__name__,
                expected="a process whose tokens show if they are noise, such as Absorbing",
                remedy="Leave block_size out with this process",
            )
        wanted = (parameterization.num_outputs(process), parameterization.time_conditioned)
        if self._built is None:
            self._build(*wanted)
            # Where tokens show that they are noise, clean ones show it too: nothing is left to learn.
            self.frozen.requires_grad_(not process.reveals_noise)
        elif self._built != wanted:
            raise IncompatibleError(
                "Transformer configured before",
                got="(outputs, time-conditioned) = " + str(wanted),
                expected=str(self._built),
                remedy="Build a new Transformer for this parameterization",
            )

    def _build(self, num_outputs: int, timed: bool) -> None:
        self.num_outputs = num_outputs
        dim, width = self.dim, round(self.mlp_ratio * self.dim)
        cond_dim = self.cond_dim if timed or self.num_labels is not None else None
        self.tokens = embedding(self.num_states, dim)
        self.frozen = nn.Parameter(torch.zeros(dim))
        self.noise = NoiseEmbedding(self.cond_dim) if timed else None
        self.labels = None if self.num_labels is None else embedding(self.num_labels + 1, self.cond_dim)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                self.heads,
                width,
                cond_dim,
                dropout=self.dropout,
                kernel=self.kernel,
                gelu=self.gelu,
                backend=self.backend,
            )
            for _ in range(self.depth)
        )
        self.norm = Norm(dim, bias=cond_dim is None)
        self.modulation = None if cond_dim is None else linear(cond_dim, 2 * dim)
        self.output = linear(dim, num_outputs)
        self._initialize()
        self._built = (num_outputs, timed)

    @torch.no_grad()
    def _initialize(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        # Embeddings of unit variance, beside which the blocks' first outputs are small: masked models leave the unigram
        # plateau sooner than with 0.02 to 0.1, time-free and conditioned alike.
        self.tokens.weight.normal_(generator=generator)
        if self.labels is not None:
            self.labels.weight.normal_(generator=generator)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                if name == "output" or name.endswith("modulation"):
                    layer.weight.zero_()
                else:
                    layer.weight.normal_(std=layer.in_features**-0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()

    @property
    def conditions_on_frozen(self) -> bool:
        return bool(self.frozen.any())  # the mark starts at zero, where it says nothing

    def checkpoint_gradients(self, on: bool) -> None:
        self._checkpointing = on

    def check_training(self, device: torch.device, dtype: torch.dtype) -> None:
        choose(self.backend, Request(device, dtype, self.dim // self.heads, gradients=True, padded=True))

    def hidden_matrices(self) -> list[nn.Parameter]:
        return [p for n, p in self.blocks.named_parameters() if p.ndim == 2 and "modulation" not in n]

    def hidden(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        """Hidden states `[B, L, dim]` after the last norm and its modulation.

        Args:
            tokens: int64 `[B, L]`.
            sigma: `[B, 1]` or `[B, L]` total noise; a time-free network does not look at it.
            context: `frozen`, `padding`, `segments`, `positions` and `labels` are used. Without `labels`, or where
                they are -1, a label-conditioned network takes the null label. A block-causal one needs `clean`, whose
                noise it takes for 0, or a `cache`; with the latter only the block asked for has states, `[B, M, dim]`.

        Returns:
            float32 under autocast, else the dtype of the parameters.

        Raises:
            IncompatibleError: not configured; noise missing or misshapen; labels or properties that it cannot use.
        """
        self._check(tokens, sigma, context)
        part = BlockPass.of(self.block_size, tokens, sigma, context)
        if part is not None:
            condition = self._condition(part.tokens, part.sigma, part.context)
            return part.finish(self._through(part.tokens, condition, part.context, Visibility(), part))
        condition, packing = self._condition(tokens, sigma, context), context.packing
        if packing is None or context.segments is not None or not self.leaves_out_padding(tokens.device):
            return self._through(tokens, condition, context, Visibility(context.padding, context.segments))
        packed = self._through(packing.pack(tokens), condition, context.packed(), Visibility(packing=packing))
        return packing.unpack(packed)

    def _through(
        self,
        tokens: Tensor,
        condition: Tensor | None,
        context: Context,
        visibility: Visibility,
        part: BlockPass | None = None,
    ) -> Tensor:
        """States of all tokens, packed ones and those beside a block-causal pass's own included."""
        x: Tensor = self.tokens(tokens)
        if context.frozen is not None:
            x = x + context.frozen[..., None].to(x.dtype) * self.frozen
        elif self.training and self.frozen.requires_grad:
            x = x + 0 * self.frozen  # in the graph of every step, as distributed training expects
        positions = context.positions
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        # [L or (B, L), pairs] -> broadcastable to q and k stacked as [B, L, 2, H, pairs]
        cos, sin = rotary_tables(positions, self.dim // self.heads, wide(x.dtype))
        tables = cos[..., None, None, :], sin[..., None, None, :]
        # what layers share is made before the first of them, which may be computed twice
        if part is None:
            self._backend(tokens.device, **visibility.hides()).prepare(tokens, visibility)
            visibility.prepare(self.kernel // 2)
        for number, block in enumerate(self.blocks):
            within = None if part is None else part.layer(number)
            if self._checkpointing and torch.is_grad_enabled():
                x = recomputed(block, x, condition, tables, visibility, within, dropout=self.dropout > 0)
            else:
                x = block(x, condition, tables, visibility, within)
        out: Tensor = self.norm(x)
        if self.modulation is not None:
            out = modulate(out, *visibility.spread(self.modulation(condition)).chunk(2, -1))
        return out.to(x.dtype)

    def leaves_out_padding(self, device: torch.device) -> bool:
        if self.block_size is not None:
            return False  # blocks are counted from the start of each row
        return self._backend(device, packed=True).variable_length if self.pack is None else self.pack

    def _backend(self, device: torch.device, **hides: bool) -> Backend:
        """The attention's backend on a device, in the dtype that products have there."""
        dtype = product_dtype(self.output.weight, device)
        request = Request(device, dtype, self.dim // self.heads, gradients=torch.is_grad_enabled(), **hides)
        return choose(self.backend, request)

    def trunk(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor:
        """The stream `[B, L, dim]` before the last block, where that can be left for later; else `hidden`."""
        if not splits(self, context):
            return self.hidden(tokens, sigma, context)
        self._check(tokens, sigma, context)
        return before_last(self, tokens, sigma, context)

    def finish(self, trunk: Tensor, sigma: Tensor | None, context: Context, where: tuple[Tensor, Tensor]) -> Tensor:
        """Hidden states `[N, dim]`: the last block, and what follows it, at N positions."""
        return after_last(self, trunk, sigma, context, where) if splits(self, context) else trunk[where]

    def head(self, hidden: Tensor) -> Tensor:
        """Logits `[..., num_outputs]` of hidden states `[..., dim]`.

        The product is computed in float32 under autocast too (float64 for a float64 network): logits rounded to
        bf16 would bias the log-softmax. `torch.set_float32_matmul_precision("high")` makes it fast on a GPU.
        """
        dtype = wide(hidden.dtype)
        with full_precision(hidden):
            logits: Tensor = F.linear(hidden.to(dtype), self.output.weight.to(dtype), self.output.bias.to(dtype))
        return logits

    def linear_head(self) -> LinearHead:
        return LinearHead(self.output.weight, self.output.bias)

    def _condition(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> Tensor | None:
        """`[B, 1 or L, cond_dim]`, or None for a network without conditions."""
        parts: list[Tensor] = []
        with full_precision(tokens):
            if self.noise is not None:
                parts.append(F.silu(self.noise(sigma)))
            if self.labels is not None:
                labels = torch.full_like(tokens[:, 0], -1) if context.labels is None else context.labels
                # row 0 is the null label's, so that a label out of range fails in the look-up at either end
                parts.append(F.silu(self.labels(labels + 1))[:, None, :])
        return sum(parts[1:], parts[0]) if parts else None

    def _check(self, tokens: Tensor, sigma: Tensor | None, context: Context) -> None:
        if self._built is None:
            raise IncompatibleError(
                "Transformer.hidden",
                got="a network without layers",
                expected="a configured network",
                remedy="Wrap it in a Diffusion, which calls configure()",
            )
        check_blocks(self.block_size, context)
        if self.noise is not None and (sigma is None or sigma.ndim != 2 or sigma.shape[1] not in (1, tokens.shape[1])):
            raise IncompatibleError(
                "sigma of a time-conditioned Transformer",
                got=None if sigma is None else list(sigma.shape),
                expected="a tensor [B, 1] or [B, L]",
                remedy="Pass the total noise of each row or position",
            )
        if context.labels is not None and self.labels is None:
            raise IncompatibleError(
                "Transformer without label conditioning",
                got="labels",
                expected="none",
                remedy="Build it with num_labels=..., or leave the labels out",
            )
        if context.properties is not None:
            raise IncompatibleError(
                "Transformer", got="properties", expected="none", remedy="It takes labels only: leave them out"
            )
