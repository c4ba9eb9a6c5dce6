"""Cut the sample that fastconv carries from the full MNIST.

    python cut_mnist.py PATH/TO/mnist.npz [mnist_sample.npz]

The input is an ``.npz`` with the arrays ``train_images`` (60000, 28, 28), ``train_labels`` (60000,), ``test_images``
(10000, 28, 28) and ``test_labels`` (10000,), all uint8.

The rule: of each digit, 1,000 training and 200 test images, drawn without replacement, so both parts are exactly
balanced; training images come only from MNIST's training set and test images only from its test set. What was drawn
is kept in MNIST's own order. A draw is needed because MNIST is not shuffled: the first half of its test set is
cleaner than the second. It is made by sorting Philox numbers, whose stream NumPy guarantees, so that the
script gives the same file from the same MNIST with every NumPy.
"""

import argparse
from pathlib import Path

import numpy as np

TRAIN_PER_DIGIT = 1000
TEST_PER_DIGIT = 200
SEED = 1998


def draw(labels, per_digit, stream):
    """Indices, ascending, of `per_digit` rows of each digit."""
    numbers = np.random.Philox(key=np.array([SEED, stream], dtype=np.uint64)).random_raw(len(labels))
    chosen = []
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        chosen.append(rows[np.argsort(numbers[rows], kind="stable")[:per_digit]])
    return np.sort(np.concatenate(chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("mnist", help="the full MNIST as .npz")
    parser.add_argument("output", nargs="?", default=Path(__file__).with_name("mnist_sample.npz"))
    arguments = parser.parse_args()
    with np.load(arguments.mnist, allow_pickle=False) as full:
        train = draw(full["train_labels"], TRAIN_PER_DIGIT, 0)
        test = draw(full["test_labels"], TEST_PER_DIGIT, 1)
        np.savez_compressed(
            arguments.output,
            train_images=full["train_images"][train],
            train_labels=full["train_labels"][train],
            test_images=full["test_images"][test],
            test_labels=full["test_labels"][test],
        )


if __name__ == "__main__":
    main()
