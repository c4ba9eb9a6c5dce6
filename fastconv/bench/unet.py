"""U-Net (Ronneberger et al., 2015) as ``networks.py`` has it: padding "same", 2x2 transposed convolutions upwards."""

from __future__ import annotations

from fastconv import functional, nn

WIDTHS = (64, 128, 256, 512, 1024)


def _twice(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),
                         nn.Conv2d(width, width, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    """For images whose sides are multiples of 16."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3):
        super().__init__()
        self.down = nn.ModuleList([_twice(a, b) for a, b in zip((in_channels, *WIDTHS), WIDTHS, strict=False)])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * width, width, 2, 2) for width in WIDTHS[-2::-1]])
        self.join = nn.ModuleList([_twice(2 * width, width) for width in WIDTHS[-2::-1]])
        self.classes = nn.Conv2d(WIDTHS[0], num_classes, 1)

    def forward(self, x):
        kept = []
        for number, block in enumerate(self.down):
            x = block(self.pool(x) if number else x)
            kept.append(x)
        for up, join, skipped in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(functional.concat([skipped, up(x)], 1))
        return self.classes(x)
