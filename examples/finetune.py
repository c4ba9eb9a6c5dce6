"""Gives an ONNX model a new head, trains it on pictures of one's own, writes it again and holds it against ONNX Runtime.

    python examples/finetune.py cifar10.onnx digits.npz --head Gemm_70 --without Relu_71 --size 32
    python examples/finetune.py mobilenet.onnx photographs --head Gemm_484 --size 224 \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

The pictures are an .npz file with train_images, train_labels, test_images and test_labels (uint8; (N, H, W) or
(N, 3, H, W)), or a folder whose files end in their labels, like cat_3.png: those are trained on, and tested on their mirror
images.
"""

import argparse
from pathlib import Path

import numpy as np

import fastconv as fc


def folder(path, size):
    """Pictures of a folder as (train, labels, test, labels)."""
    from PIL import Image

    files = sorted(p for p in Path(path).iterdir() if p.suffix in (".png", ".jpg"))
    names = sorted({p.stem.rpartition("_")[2] for p in files})
    opened = (Image.open(p).convert("RGB").resize((size, size), Image.Resampling.BILINEAR) for p in files)
    images = np.stack([np.asarray(picture) for picture in opened])
    labels = np.array([names.index(p.stem.rpartition("_")[2]) for p in files])
    images = images.transpose(0, 3, 1, 2)
    return images, labels, images[..., ::-1], labels


def archive(path, size, most):
    """Pictures of an .npz file, on (3, size, size) with a border of their first value."""
    with np.load(path) as file:
        arrays = [file[key] for key in ("train_images", "train_labels", "test_images", "test_labels")]
    out = []
    for images, labels in (arrays[:2], arrays[2:]):
        images = images[:most] if images.ndim == 4 else np.repeat(images[:most, None], 3, 1)
        rest = [((size - n) // 2, size - n - (size - n) // 2) for n in images.shape[2:]]
        out += [np.pad(images, ((0, 0), (0, 0), *rest)), labels[:most].astype(np.int64)]
    return out


def numbers(text):
    return np.array([float(v) for v in text.split(",")], np.float32).reshape(-1, 1, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures")
    parser.add_argument("--head", required=True, help="the node, or part, whose place the new layer takes")
    parser.add_argument("--without", action="append", default=[], help="a node that is left out: an activation behind it")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--mean", type=numbers, help="of pictures from 0 to 1; default: pictures from 0 to 255 as they are")
    parser.add_argument("--std", type=numbers)
    parser.add_argument("--most", type=int, default=4000, help="pictures of an .npz file")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--all", action="store_true", help="train all layers, normalisations too, not the head alone")
    parser.add_argument("--output", default="finetuned.onnx")
    chosen = parser.parse_args()

    read = folder(chosen.pictures, chosen.size) if Path(chosen.pictures).is_dir() else \
        archive(chosen.pictures, chosen.size, chosen.most)
    train, labels, test, truth = read
    if chosen.mean is not None:
        train, test = ((x.astype(np.float32) / 255 - chosen.mean) / chosen.std for x in (train, test))
    train, test = (np.ascontiguousarray(x, np.float32) for x in (train, test))

    fc.manual_seed(0)
    net = fc.load(chosen.model)
    if not chosen.all:
        for p in net.parameters():
            p.requires_grad = False
        for part in net.modules():
            if getattr(part, "kind", "") == "BatchNormalization":
                part.eval()
    for place in (chosen.head, *chosen.without):
        net.replace(place, fc.nn.Identity())
    features = fc.compile(net, train[:1].shape)(train[:1]).shape[1]  # what the head is given
    net.replace(chosen.head, fc.nn.Linear(features, int(labels.max()) + 1))
    print(f"{chosen.head} becomes Linear({features}, {int(labels.max()) + 1})")

    trainer = fc.Trainer(net, fc.nn.CrossEntropyLoss(), fc.optim.Adam(lr=chosen.rate), metrics=["accuracy"])
    trainer.fit((train, labels), chosen.epochs, batch_size=32)

    engine = fc.compile(net.eval(), (min(32, len(test)), *test.shape[1:]))
    found = np.concatenate([engine(test[i: i + 32]) for i in range(0, len(test), 32)])
    print(f"{int((found.argmax(1) == truth).sum())} of {len(truth)} pictures right")
    fc.save(net, chosen.output, metadata={"trained": "examples/finetune.py"})

    import onnxruntime

    session = onnxruntime.InferenceSession(chosen.output, providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    theirs = np.concatenate([session.run(None, {name: test[i: i + 32]})[0] for i in range(0, len(test), 32)])
    print(f"ONNX Runtime, {chosen.output}: {int((theirs.argmax(1) == truth).sum())} right, "
          f"largest difference {np.abs(theirs - found).max():.1e} of {np.abs(found).max():.1f}")


if __name__ == "__main__":
    main()
