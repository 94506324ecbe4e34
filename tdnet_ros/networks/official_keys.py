"""The keys of official classes (TDNet's, those of its training, AR-Seg's) and ours: one table of rules per family.

A new family of official files is one more entry of FAMILIES; its rules may be put together from the shared tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

#: (pattern of the official key, template of ours). The pattern's first group is the number of the path, which may be
#: empty: ``{path}`` is ``subnetworks.0.`` for path 1, ``subnetworks.1.`` for path 2, and nothing where there is no
#: number. ``{1}`` is what the group behind that matched, ``{1-}`` the same less one: official parts count from one.
Rule = tuple[str, str]

RESNET: tuple[Rule, ...] = (
    (r"pretrained(\d*)\.conv1\.weight", "{path}path.backbone.stem.conv.weight"),
    # Of the deep stem's three convolutions the last is the one in front of bn1.
    (r"pretrained(\d*)\.conv1\.0\.weight", "{path}path.backbone.prestem.0.conv.weight"),
    (r"pretrained(\d*)\.conv1\.1\.(\w+)", "{path}path.backbone.prestem.0.norm.{1}"),
    (r"pretrained(\d*)\.conv1\.3\.weight", "{path}path.backbone.prestem.1.conv.weight"),
    (r"pretrained(\d*)\.conv1\.4\.(\w+)", "{path}path.backbone.prestem.1.norm.{1}"),
    (r"pretrained(\d*)\.conv1\.6\.weight", "{path}path.backbone.stem.conv.weight"),
    (r"pretrained(\d*)\.bn1\.(\w+)", "{path}path.backbone.stem.norm.{1}"),
    (r"pretrained(\d*)\.(layer\d\.\d+\.conv\d)\.weight", "{path}path.backbone.{1}.conv.weight"),
    (r"pretrained(\d*)\.(layer\d\.\d+)\.bn(\d)\.(\w+)", "{path}path.backbone.{1}.conv{2}.norm.{3}"),
    (r"pretrained(\d*)\.(layer\d\.\d+\.downsample)\.0\.weight", "{path}path.backbone.{1}.conv.weight"),
    (r"pretrained(\d*)\.(layer\d\.\d+\.downsample)\.1\.(\w+)", "{path}path.backbone.{1}.norm.{2}"),
)
PYRAMID: tuple[Rule, ...] = (
    (r"psp(\d+)\.conv([1-4])\.0\.weight", "{path}path.pyramid.pooled.{1-}.conv.weight"),
    (r"psp(\d+)\.conv([1-4])\.1\.(\w+)", "{path}path.pyramid.pooled.{1-}.norm.{2}"),
)
PROPAGATION: tuple[Rule, ...] = (
    (r"enc(\d+)\.w_qs\.0\.conv\.weight", "{path}encoder.query.0.conv.weight"),
    (r"enc(\d+)\.w_qs\.0\.bn\.(\w+)", "{path}encoder.query.0.norm.{1}"),
    (r"enc(\d+)\.w_qs\.1\.conv\.(\w+)", "{path}encoder.query.1.{1}"),
    (r"enc(\d+)\.w_ks\.0\.conv\.weight", "{path}encoder.key.0.conv.weight"),
    (r"enc(\d+)\.w_ks\.0\.bn\.(\w+)", "{path}encoder.key.0.norm.{1}"),
    (r"enc(\d+)\.w_ks\.1\.conv\.(\w+)", "{path}encoder.key.1.{1}"),
    (r"enc(\d+)\.w_vs\.0\.conv\.(\w+)", "{path}encoder.value.{1}"),
    (r"atn(\d+)_(\d+)\.fc\.0\.conv\.(\w+)", "{path}propagation.transfer.{1-}.{2}"),
    # With two paths the source needs no name there: it is the other one.
    (r"atn(1)\.fc\.0\.conv\.(\w+)", "{path}propagation.transfer.1.{1}"),
    (r"atn(2)\.fc\.0\.conv\.(\w+)", "{path}propagation.transfer.0.{1}"),
    (r"layer_norm(\d+)_?\.ln\.(\w+)", "{path}norm.{1}"),
)
FCN_HEAD: tuple[Rule, ...] = (
    (r"head(\d+)\.conv5\.0\.weight", "{path}head.conv.conv.weight"),
    (r"head(\d+)\.conv5\.1\.(\w+)", "{path}head.conv.norm.{1}"),
    (r"head(\d+)\.conv5\.4\.(\w+)", "{path}head.classifier.{1}"),
)
#: BiSeNet's and FANet's backbones are ResNets under other names; their heads are one class.
BISENET: tuple[Rule, ...] = (
    *(
        (old.replace(r"pretrained(\d*)", r"cp(\d+)\.resnet"), new.replace("path.", "path.context."))
        for old, new in RESNET
    ),
    (r"cp(\d+)\.arm(16|32)\.conv\.conv\.weight", "{path}path.context.refine{1}.reduce.conv.weight"),
    (r"cp(\d+)\.arm(16|32)\.conv\.bn\.(\w+)", "{path}path.context.refine{1}.reduce.norm.{2}"),
    (r"cp(\d+)\.arm(16|32)\.conv_atten\.weight", "{path}path.context.refine{1}.gate.conv.weight"),
    (r"cp(\d+)\.arm(16|32)\.bn_atten\.(\w+)", "{path}path.context.refine{1}.gate.norm.{2}"),
    (r"cp(\d+)\.conv_head(16|32)\.conv\.weight", "{path}path.context.smooth{1}.conv.weight"),
    (r"cp(\d+)\.conv_head(16|32)\.bn\.(\w+)", "{path}path.context.smooth{1}.norm.{2}"),
    (r"cp(\d+)\.conv_avg\.conv\.weight", "{path}path.context.overview.conv.weight"),
    (r"cp(\d+)\.conv_avg\.bn\.(\w+)", "{path}path.context.overview.norm.{1}"),
    (r"ffm(\d+)\.convblk\.conv\.weight", "{path}path.fusion.mix.conv.weight"),
    (r"ffm(\d+)\.convblk\.bn\.(\w+)", "{path}path.fusion.mix.norm.{1}"),
    (r"ffm(\d+)\.conv1\.weight", "{path}path.fusion.squeeze.weight"),
    (r"ffm(\d+)\.conv2\.weight", "{path}path.fusion.expand.weight"),
)
#: The official names of the stages count as if there were no extra stride, ours say how small their maps are.
FANET: tuple[Rule, ...] = tuple(
    (rf"ffm_{official}_(\d+)\.{old}\.{layer}", f"{{path}}path.{new.format(ours)}.{kept}")
    for official, ours in ((4, 8), (8, 16), (16, 32), (32, 64))
    for old, new in (
        ("w_qs", "attention{}.query"),
        ("w_ks", "attention{}.key"),
        ("w_vs", "attention{}.value"),
        ("latlayer3", "attention{}.lateral"),
        ("up", "lift{}"),
        ("smooth", "smooth{}"),
    )
    for layer, kept in ((r"conv\.weight", "conv.weight"), (r"bn\.(\w+)", "norm.{1}"))
)
LEAKY_HEAD: tuple[Rule, ...] = (
    (r"(?:head|conv_out_)(\d+)\.conv\.conv\.weight", "{path}head.conv.conv.weight"),
    (r"(?:head|conv_out_)(\d+)\.conv\.bn\.(\w+)", "{path}head.conv.norm.{1}"),
    (r"(?:head|conv_out_)(\d+)\.conv_out\.weight", "{path}head.classifier.weight"),
)
PSPNET: tuple[Rule, ...] = (
    (r"head(\d*)\.conv5\.0\.conv([1-4])\.0\.weight", "{path}path.pyramid.pooled.{1-}.conv.weight"),
    (r"head(\d*)\.conv5\.0\.conv([1-4])\.1\.(\w+)", "{path}path.pyramid.pooled.{1-}.norm.{2}"),
    (r"head(\d*)\.conv5\.1\.weight", "{path}head.conv.conv.weight"),
    (r"head(\d*)\.conv5\.2\.(\w+)", "{path}head.conv.norm.{1}"),
    (r"head(\d*)\.conv5\.5\.(\w+)", "{path}head.classifier.{1}"),
)
#: One file of AR-Seg is one branch, ``branch.`` here: see ``checkpoint_pairs``. No path has a number there.
CREFF: tuple[Rule, ...] = (
    (r"fuse_attention()\.lr_query_conv\.(\w+)", "fusion.query.{1}"),
    (r"fuse_attention()\.hr_key_conv\.(\w+)", "fusion.key.{1}"),
    (r"fuse_attention()\.hr_value_conv\.(\w+)", "fusion.value.{1}"),
    (r"final_conv()\.(\w+)", "classifier.{1}"),
)
DECODED_PYRAMID_BRANCH: tuple[Rule, ...] = (
    *((old.replace(r"pretrained(\d*)", "feats()"), new.replace("{path}path.", "branch.")) for old, new in RESNET),
    (r"psp()\.stages\.(\d)\.1\.weight", "branch.pyramid.pooled.{1}.weight"),
    (r"psp()\.bottleneck\.(\w+)", "branch.pyramid.mix.{1}"),
    (r"up()_(\d)\.conv\.0\.weight", "branch.lifts.{1-}.conv.weight"),
    (r"up()_(\d)\.conv\.1\.(\w+)", "branch.lifts.{1-}.norm.{2}"),
    (r"up()_(\d)\.conv\.2\.weight", "branch.lifts.{1-}.activation.weight"),
)
PYRAMID_BRANCH: tuple[Rule, ...] = (
    *((old.replace(r"pretrained(\d*)\.", "()"), new.replace("{path}path.", "branch.")) for old, new in RESNET),
    (r"layer0()\.0\.weight", "branch.backbone.stem.conv.weight"),
    (r"layer0()\.1\.(\w+)", "branch.backbone.stem.norm.{1}"),
    (r"ppm()\.features\.(\d)\.1\.weight", "branch.pyramid.pooled.{1}.conv.weight"),
    (r"ppm()\.features\.(\d)\.2\.(\w+)", "branch.pyramid.pooled.{1}.norm.{2}"),
    (r"cls()\.0\.weight", "branch.refine.conv.weight"),
    (r"cls()\.1\.(\w+)", "branch.refine.norm.{1}"),
    # The same tensors as final_conv, which an older file does not name.
    (r"cls()\.4\.(\w+)", "classifier.{1}"),
)
BISENET_BRANCH: tuple[Rule, ...] = (
    *((old.replace(r"(\d+)", "()"), new.replace("{path}path.", "branch.")) for old, new in BISENET),
    (r"ffm()\.conv\.weight", "branch.fusion.gate.conv.weight"),
    (r"ffm()\.bn\.(\w+)", "branch.fusion.gate.norm.{1}"),
    (r"sp()\.conv([123])\.conv\.weight", "branch.spatial.conv{1}.conv.weight"),
    (r"sp()\.conv([123])\.bn\.(\w+)", "branch.spatial.conv{1}.norm.{2}"),
    (r"sp()\.conv_out\.conv\.weight", "branch.spatial.project.conv.weight"),
    (r"sp()\.conv_out\.bn\.(\w+)", "branch.spatial.project.norm.{1}"),
    # Files of AR-Seg name these tensors twice, files of BiSeNet itself once.
    (r"(?:conv_out\.conv|feat_conv_out)()\.conv\.weight", "branch.refine.conv.weight"),
    (r"(?:conv_out\.conv|feat_conv_out)()\.bn\.(\w+)", "branch.refine.norm.{1}"),
    (r"conv_out()\.conv_out\.(\w+)", "classifier.{1}"),
)
#: Biases of convolutions in front of a batch norm, and the norm's mean that takes them up.
LIFT_BIASES: tuple[Rule, ...] = ((r"up()_(\d)\.conv\.0\.bias", "branch.lifts.{1-}.norm.running_mean"),)
PROPAGATION_BIASES: tuple[Rule, ...] = (
    (r"enc(\d+)\.w_qs\.0\.conv\.bias", "{path}encoder.query.0.norm.running_mean"),
    (r"enc(\d+)\.w_ks\.0\.conv\.bias", "{path}encoder.key.0.norm.running_mean"),
)


@dataclass(frozen=True)
class KeyFamily:
    """The keys of one kind of official file. All patterns must match a whole key.

    A file is of the first family with a ``telltale`` among its keys. ``rules`` rename; ``biases`` name the mean of the
    batch norm behind a convolution that has a bias there and none here; keys that match ``unused`` are dropped: parts
    that only training uses (auxiliary heads, a teacher) or that nothing uses (the ImageNet classifier).
    """

    telltale: str
    rules: tuple[Rule, ...]
    biases: tuple[Rule, ...] = ()
    unused: str = r"pretrained\d*\.fc\..*|auxlayer\d*\..*|teacher\..*"

    def leaves_out(self, key: str) -> bool:
        """Whether nothing of ours takes that key up."""
        return re.fullmatch(self.unused, key) is not None


FAMILIES: dict[str, KeyFamily] = {
    # In front of the pyramid's, as its telltale knows parts that all TDNets have.
    "TDNet with BiSeNet paths": KeyFamily(
        telltale=r"(cp|ffm)\d+\..*",
        rules=BISENET + PROPAGATION + LEAKY_HEAD,
        biases=PROPAGATION_BIASES,
        unused=r"conv_out(16|32)_\d+\..*|teacher\..*",
    ),
    "TDNet with FANet paths": KeyFamily(
        telltale=r"ffm_\d+_\d+\..*",
        rules=RESNET + FANET + PROPAGATION + LEAKY_HEAD,
        biases=PROPAGATION_BIASES,
        # The finest stage is lifted nowhere, and only two stages are read by what follows.
        unused=r"ffm_4_\d+\.up\..*|ffm_(8|32)_\d+\.smooth\..*|head_aux\d+\..*|teacher\..*",
    ),
    "PSPNet": KeyFamily(telltale=r"(pretrained|head\.conv5)\..*", rules=RESNET + PSPNET),
    "TDNet with pyramid pooling": KeyFamily(
        telltale=r"(pretrained|psp|enc|atn|layer_norm|head)\d.*",
        rules=RESNET + PYRAMID + PROPAGATION + FCN_HEAD,
        biases=PROPAGATION_BIASES,
    ),
    "AR-Seg with PSPNet for CamVid": KeyFamily(
        telltale=r"feats\..*",
        rules=DECODED_PYRAMID_BRANCH + CREFF,
        biases=LIFT_BIASES,
        unused=r"classifier\.[02]\..*",
    ),
    "AR-Seg with PSPNet for Cityscapes": KeyFamily(
        telltale=r"ppm\.features\..*", rules=PYRAMID_BRANCH + CREFF, unused=r"aux\..*"
    ),
    "AR-Seg with BiSeNet": KeyFamily(
        telltale=r"(cp|sp|ffm)\..*", rules=BISENET_BRANCH + CREFF, unused=r"conv_out(16|32)\..*"
    ),
}


def family_of(keys: Iterable[str]) -> KeyFamily | None:
    """The family that the keys of an official file belong to; None when they are of no official class."""
    found = list(keys)
    for family in FAMILIES.values():
        if any(re.fullmatch(family.telltale, key) for key in found):
            return family
    return None


def rename_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the official classes to ours; keys that no rule knows stay as they are, and so do our own."""
    family = family_of(weights)
    if family is None:
        return dict(weights)
    renamed: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for key, value in weights.items():
        if family.leaves_out(key):
            continue
        mean = _rename(key, family.biases)
        if mean is not None:
            biases[mean] = value
            continue
        ours = _rename(key, family.rules) or key
        # The transfer is a 1x1 convolution there and a linear layer here.
        renamed[ours] = value.flatten(1) if ".transfer." in ours and value.dim() == 4 else value
    for mean, bias in biases.items():
        if mean in renamed:
            renamed[mean] = renamed[mean] - bias  # norm(x + b) with mean m is norm(x) with mean m - b
    return renamed


def _rename(key: str, rules: tuple[Rule, ...]) -> str | None:
    for pattern, template in rules:
        found = re.fullmatch(pattern, key)
        if found is None:
            continue
        path, *rest = found.groups()
        name = template.replace("{path}", f"subnetworks.{int(path) - 1}." if path else "")
        for position, text in enumerate(rest, start=1):
            name = name.replace(f"{{{position}}}", text)
            if f"{{{position}-}}" in name:
                name = name.replace(f"{{{position}-}}", str(int(text) - 1))
        return name
    return None
