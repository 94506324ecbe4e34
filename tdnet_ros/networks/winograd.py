"""3x3 convolutions with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3), for CPUs.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. An output tile of 4x4 pixels comes from
36 products per pair of channels in place of 144: the 6x6 input tile d and the filter g are carried to 36 points,
multiplied there, and carried back:  Y = A^T [(G g G^T) * (B^T d B)] A.

The points are 0, +-2/3, +-3/2 and infinity. With the usual 0, +-1, +-2 the error is four times as large; with these it
is that of oneDNN's direct convolution for channels-last (512 channels, against float64: rms 1.0e-6 and 0.7e-6).

Counts, for Cin, Cout channels and N positions: 36/16 N Cin Cout MAC in place of 9 N Cin Cout. The transforms read and
write about 7.5 + 2.25 times the input and 2.25 + 4 times the output, in strips that stay in the last cache. The
transformed weights are 36/9 = 4 times as many as the filter's.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn

#: Output rows and columns of a tile, and input rows and columns that it depends on.
TILE = 4
_FIELD = TILE + 2
_NEAR, _FAR = 2 / 3, 3 / 2
#: Floats of one strip's tiles at the 36 points. Each strip reads all weights again: small is economical, large is fast.
_STRIP_FLOATS = 1 << 21
#: Input channels whose filters are transformed at once: few enough for the cache, else loading takes seconds.
_FILTER_STRIP = 64


class _Workspace(threading.local):
    """Memory that all layers of a thread share, strip after strip: fresh pages would cost as much as the transforms."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An uninitialised tensor, valid until the next call with that name."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size or flat.dtype != like.dtype:
            self._flat.pop(name, None)
            with torch.inference_mode(False):  # memory that serves inside and outside of that mode
                flat = self._flat[name] = torch.empty(max(size, _STRIP_FLOATS), dtype=like.dtype)
        return flat[:size].view(shape)


_workspace = _Workspace()


class WinogradConv(nn.Module):
    """A 3x3 convolution with stride 1 that keeps the size: (B, Cin, H, W) -> (B, Cout, H, W), channels-last.

    ``weight`` (Cout, Cin, 3, 3) and ``bias`` (Cout) are the convolution's. A dilation of d splits rows and columns into
    d phases each, which are convolved on their own, without dilation. ``relu``: whether a ReLU follows. For inference
    only.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.relu = relu
        self.register_buffer("weight", _filters_at_points(weight.detach()))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1)
        result = torch.empty((batch, height, width, self.weight.shape[2]), dtype=x.dtype)
        for source, target in zip(pixels, result, strict=True):
            for rows, phases in self._strips(height, width):
                self._convolve(source, target, rows, phases)
        return result.permute(0, 3, 1, 2)

    def _strips(self, height: int, width: int) -> Iterator[tuple[range, range]]:
        """Ranges of tile rows and of row phases that are small enough together."""
        d = self.dilation
        tile_rows = _tiles(height, d)
        floats = _FIELD**2 * _tiles(width, d) * d * max(self.weight.shape[1:])  # one tile row of one phase
        room = max(1, _STRIP_FLOATS // floats)
        # Strips of about the same size.
        if room >= d:
            step, phase_step = _even_step(tile_rows, room // d), d
        else:
            step, phase_step = 1, _even_step(d, room)
        for row in range(0, tile_rows, step):
            for phase in range(0, d, phase_step):
                yield range(row, min(row + step, tile_rows)), range(phase, min(phase + phase_step, d))

    def _convolve(self, source: Tensor, target: Tensor, rows: range, phases: range) -> None:
        """One strip: pixels (H, W, Cin) -> pixels (H, W, Cout)."""
        d, (height, width, inputs) = self.dilation, source.shape
        outputs = target.shape[2]
        tiles, many, across = len(rows), len(phases), _tiles(width, d)
        # Rows of the strip, (tile, phase) in memory order, with the border that the filter reaches over.
        padded = _workspace.take("B", (TILE * tiles + 2, many, (TILE * across + 2) * d, inputs), source)
        for line, (top, bottom) in enumerate(_lines(TILE * rows.start - 1, padded.shape[0], phases, d, height)):
            padded[line, :, :d].zero_()
            padded[line, :, d + width :].zero_()
            skip = top - ((TILE * rows.start - 1 + line) * d + phases.start)
            count = max(bottom - top, 0)
            inner = padded[line, :, d : d + width]
            if count < many:
                inner.zero_()
            if count:
                inner[skip : skip + count] = source[top:bottom]
        # To the points, along rows and then along columns.
        by_rows = _workspace.take("C", (_FIELD, tiles, many, padded.shape[2], inputs), source)
        _to_points([_every_fourth(padded, 0, line, tiles) for line in range(_FIELD)], list(by_rows))
        columns = by_rows.view(_FIELD * tiles * many, TILE * across + 2, d, inputs)
        points = _workspace.take("A", (_FIELD, _FIELD, tiles * many, across, d, inputs), source)
        taken = [_every_fourth(columns, 1, line, across) for line in range(_FIELD)]
        _to_points([x.view(_FIELD, tiles * many, *x.shape[1:]) for x in taken], list(points.unbind(1)))
        products = _workspace.take("B", (_FIELD**2, tiles * many * across * d, outputs), source)
        torch.bmm(points.view(_FIELD**2, -1, inputs), self.weight, out=products)
        # And back.
        back = products.view(_FIELD, _FIELD, tiles * many, across, d, outputs)
        half = _workspace.take("A", (TILE, _FIELD, tiles * many, across, d, outputs), source)
        spare = _workspace.take("C", (4, _FIELD, tiles * many, across, d, outputs), source)
        _from_points(list(back.unbind(0)), list(half.unbind(0)), list(spare.unbind(0)))
        strip = _workspace.take("B", (TILE, tiles * many, across, TILE, d, outputs), source)
        spare = _workspace.take("C", (4, TILE, tiles * many, across, d, outputs), source)
        _from_points(list(half.unbind(1)), list(strip.unbind(3)), list(spare.unbind(0)))
        lines = strip.view(TILE, tiles, many, across * TILE * d, outputs)
        for tile, row in enumerate(rows):
            for line, (top, bottom) in enumerate(_lines(TILE * row, TILE, phases, d, height)):
                if bottom > top:
                    self._finish(lines[line, tile, : bottom - top, :width], target[top:bottom])

    def _finish(self, x: Tensor, out: Tensor) -> None:
        if self.bias is None:
            out.copy_(x)
        else:
            torch.add(x, self.bias, out=out)
        if self.relu:
            out.relu_()


def _tiles(size: int, dilation: int) -> int:
    return -(-size // (dilation * TILE))


def _even_step(count: int, most: int) -> int:
    parts = -(-count // most)
    return -(-count // parts)


def _lines(first: int, count: int, phases: range, dilation: int, height: int) -> Iterator[tuple[int, int]]:
    """For each of ``count`` rows of the phases, from ``first`` on, the picture's rows that they are: [top, bottom)."""
    for line in range(first, first + count):
        top, bottom = line * dilation + phases.start, line * dilation + phases.stop
        yield min(max(top, 0), height), min(max(bottom, 0), height)


def _every_fourth(x: Tensor, dim: int, first: int, count: int) -> Tensor:
    """Every fourth slice along ``dim``, from ``first`` on."""
    return x.narrow(dim, first, TILE * (count - 1) + 1)[(slice(None),) * dim + (slice(None, None, TILE),)]


def _filter_matrix() -> Tensor:
    """G (6, 3): a filter of three taps, as a polynomial, at the points; scaled to fit the two others."""
    near, far = _NEAR**2, _FAR**2
    rows = [[1.0, 0.0, 0.0]]
    for point, other in ((_NEAR, far), (_FAR, near)):
        scale = 1 / (2 * point**2 * (point**2 - other))
        rows += [[scale, scale * sign * point, scale * point**2] for sign in (1, -1)]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


def _filters_at_points(weight: Tensor) -> Tensor:
    """Filters (Cout, Cin, 3, 3) -> G g G^T (36, Cin, Cout), computed in double precision."""
    outputs, inputs = weight.shape[:2]
    matrix = _filter_matrix()
    both_ways = torch.kron(matrix, matrix)  # (36, 9)
    taps = weight.permute(2, 3, 1, 0).reshape(9, inputs, outputs)
    points = torch.empty((_FIELD**2, inputs, outputs), dtype=weight.dtype)
    for first in range(0, inputs, _FILTER_STRIP):
        strip = taps[:, first : first + _FILTER_STRIP].double()
        points[:, first : first + _FILTER_STRIP] = (both_ways @ strip.flatten(1)).view(-1, *strip.shape[1:])
    return points


def _to_points(d: list[Tensor], out: list[Tensor]) -> None:
    """B^T d along one direction: six slices of the input -> the six points."""
    near, far = _NEAR**2, _FAR**2  # near * far = 1
    even, odd = out[0], out[5]  # until they are due
    for plus, minus, point, other in ((1, 2, _NEAR, far), (3, 4, _FAR, near)):
        torch.sub(d[4], d[2], alpha=other, out=even)
        torch.sub(d[3], d[1], alpha=other, out=odd)
        torch.add(even, odd, alpha=point, out=out[plus])
        torch.sub(even, odd, alpha=point, out=out[minus])
    torch.sub(d[0], d[2], alpha=near + far, out=out[0]).add_(d[4])
    torch.sub(d[1], d[3], alpha=near + far, out=out[5]).add_(d[5])


def _from_points(m: list[Tensor], out: list[Tensor], spare: list[Tensor]) -> None:
    """A^T m along one direction: the six points -> four slices of the output."""
    near_sum, near_difference, far_sum, far_difference = spare
    torch.add(m[1], m[2], out=near_sum)
    torch.sub(m[1], m[2], out=near_difference)
    torch.add(m[3], m[4], out=far_sum)
    torch.sub(m[3], m[4], out=far_difference)
    torch.add(m[0], near_sum, out=out[0]).add_(far_sum)
    torch.mul(near_difference, _NEAR, out=out[1]).add_(far_difference, alpha=_FAR)
    torch.mul(near_sum, _NEAR**2, out=out[2]).add_(far_sum, alpha=_FAR**2)
    torch.add(m[5], near_difference, alpha=_NEAR**3, out=out[3]).add_(far_difference, alpha=_FAR**3)
