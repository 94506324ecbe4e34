"""Keys and shapes of official TDNet files with pyramid pooling, put together from how their parts repeat."""

from __future__ import annotations

from collections.abc import Iterator

Entry = tuple[str, tuple[int, ...]]
Listing = dict[str, tuple[int, ...]]

_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def single_frame(depth: int, classes: int = 19) -> Listing:
    """psp18.pkl, psp50.pkl, psp101.pkl."""
    channels = 512 if depth == 18 else 2048
    hidden = channels // 4
    return dict(
        [
            *_resnet("pretrained", depth),
            *_pyramid("head.conv5.0", channels),
            ("head.conv5.1.weight", (hidden, 2 * channels, 3, 3)),
            *_norm("head.conv5.2", hidden),
            ("head.conv5.5.weight", (classes, hidden, 1, 1)),
            ("head.conv5.5.bias", (classes,)),
        ]
    )


def tdnet(
    paths: int, depth: int, classes: int = 19, maps: tuple[int, int] = (97, 193), auxiliary: bool = False
) -> Listing:
    """td4-psp18.pkl and td2-psp50.pkl; with ``auxiliary`` what the training saves as model_state."""
    channels, hidden = (512, 128) if depth == 18 else (2048, 256)
    entries: list[Entry] = []
    for path in range(1, paths + 1):
        entries += _resnet(f"pretrained{path}", depth)
        entries += _pyramid(f"psp{path}", channels)
        for part in ("w_qs", "w_ks"):
            entries += _convolution(f"enc{path}.{part}.0.conv", channels, 64)
            entries += _norm(f"enc{path}.{part}.0.bn", 64)
            entries += _convolution(f"enc{path}.{part}.1.conv", 64, 64)
        entries += _convolution(f"enc{path}.w_vs.0.conv", channels, 512)
        sources = [f"_{source}" for source in range(1, paths + 1) if source != path] if paths > 2 else [""]
        for source in sources:
            entries += _convolution(f"atn{path}{source}.fc.0.conv", 512, 512)
        entries += [(f"layer_norm{path}.ln.weight", maps), (f"layer_norm{path}.ln.bias", maps)]
        entries += _fcn(f"head{path}.conv5", 512, hidden, classes)
        if auxiliary:
            entries += _fcn(f"auxlayer{path}.conv5", channels // 2, channels // 8, classes)
    return dict(entries)


def _fcn(name: str, channels: int, hidden: int, classes: int) -> Iterator[Entry]:
    yield f"{name}.0.weight", (hidden, channels, 3, 3)
    yield from _norm(f"{name}.1", hidden)
    yield from _convolution(f"{name}.4", hidden, classes)


def _pyramid(name: str, channels: int) -> Iterator[Entry]:
    for level in range(1, 5):
        yield f"{name}.conv{level}.0.weight", (channels // 4, channels, 1, 1)
        yield from _norm(f"{name}.conv{level}.1", channels // 4)


def _resnet(name: str, depth: int) -> Iterator[Entry]:
    """With the deep stem of three 3x3 convolutions from depth 50 on, and the ImageNet classifier."""
    bottleneck = depth > 18
    inputs = 128 if bottleneck else 64
    if bottleneck:
        for position, (before, after) in zip((0, 3), ((3, 64), (64, 64)), strict=True):
            yield f"{name}.conv1.{position}.weight", (after, before, 3, 3)
            yield from _norm(f"{name}.conv1.{position + 1}", after)
        yield f"{name}.conv1.6.weight", (128, 64, 3, 3)
    else:
        yield f"{name}.conv1.weight", (64, 3, 7, 7)
    yield from _norm(f"{name}.bn1", inputs)
    for stage, blocks in enumerate(_BLOCKS[depth]):
        width = 64 * 2**stage
        outputs = 4 * width if bottleneck else width
        for index in range(blocks):
            block = f"{name}.layer{stage + 1}.{index}"
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            before = inputs
            for number, kernel in enumerate(kernels, start=1):
                after = outputs if number == len(kernels) else width
                yield f"{block}.conv{number}.weight", (after, before, kernel, kernel)
                yield from _norm(f"{block}.bn{number}", after)
                before = after
            if inputs != outputs:
                yield f"{block}.downsample.0.weight", (outputs, inputs, 1, 1)
                yield from _norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    yield f"{name}.fc.weight", (1000, inputs)
    yield f"{name}.fc.bias", (1000,)


def _convolution(name: str, inputs: int, outputs: int) -> Iterator[Entry]:
    yield f"{name}.weight", (outputs, inputs, 1, 1)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, channels: int) -> Iterator[Entry]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}.num_batches_tracked", ()
