"""Train one version of the digits classifier, and save what cloudreg registers.

$ python train.py --data data
$ python train.py build/v1 --hidden 12 --epochs 60
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cloudreg.importers.torch import save
from cloudreg.manifest import ModelCard
from digits import build

SEED = 7

CARD = ModelCard(
    intended_use="Reading single handwritten digits of 8 by 8 pixels. A demonstration.",
    data="scikit-learn's copy of the UCI optical digits: 1,797 images by 43 people.",
    performance="Accuracy on 270 images that training never saw.",
    limits="Not for other scripts, for photographs, or for more than one digit at a time.",
    bias="Nothing is known of the age or handedness of those who wrote.",
    owners="quickstart@example.com",
)


def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the training, validation and golden parts: images [n, 64] and labels [n]."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    rest, held, rest_labels, held_labels = train_test_split(
        images, labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    half = len(held) // 2
    return {
        "train": (rest, rest_labels),
        "validation": (held[:half], held_labels[:half]),
        "golden": (held[half:], held_labels[half:]),
    }


def write_data(folder: Path) -> None:
    """Write the training data, whose digest is recorded, and the golden samples for the gate."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = data()
    images, labels = parts["train"]
    np.savetxt(folder / "train.csv", np.column_stack([images, labels]), fmt="%d", delimiter=",")
    with (folder / "golden.jsonl").open("w") as writer:
        for image, label in zip(*parts["golden"], strict=True):
            sample = {"instance": image.tolist(), "expected": {"label": int(label)}}
            writer.write(json.dumps(sample) + "\n")


def train(hidden: int, epochs: int, *, inverted: bool = False) -> tuple[torch.nn.Module, float]:
    """Return a trained model and its accuracy on the validation part.

    Args:
        hidden: Width of the hidden layer.
        epochs: Passes over the training data.
        inverted: Train and validate on white ink: a mistake, since callers send black.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    parts = {
        name: (torch.from_numpy(16 - x if inverted else x), torch.from_numpy(y))
        for name, (x, y) in data().items()
    }
    model = build(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    images, labels = parts["train"]
    for _ in range(epochs):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.layers(images), labels).backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        images, labels = parts["validation"]
        accuracy = (model(images)["label"] == labels).float().mean().item()
    return model, accuracy


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where the version goes")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="write the data sets here")
    parser.add_argument("--hidden", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--inverted", action="store_true", help="make the mistake")
    options = parser.parse_args()
    if options.data is not None:
        write_data(options.data)
        print(f"{options.data}: training data and golden samples")
    if options.folder is None:
        return
    model, accuracy = train(options.hidden, options.epochs, inverted=options.inverted)
    save(
        model,
        options.folder,
        sample={"pixels": torch.from_numpy(data()["golden"][0][:4])},
        factory=build,
        arguments={"hidden": options.hidden},
        code=[Path(__file__).with_name("digits.py")],
        metrics={"val_accuracy": round(accuracy, 4)},
        card=CARD,
    )
    print(f"{options.folder}: accuracy {accuracy:.4f} on the validation part")


if __name__ == "__main__":
    main()
