"""What a link makes of a packet on its way: bytes around it, a least size, cells, a coding."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from shaper.tree import Cells

__all__ = ["LINK_LAYERS", "Cells", "LinkLayer"]


@dataclass(frozen=True, slots=True)
class LinkLayer:
    """`overhead` bytes on top of the IP packet, as tc-cake(8) counts them; `mpu` the least that a frame counts for."""

    name: str
    overhead: int
    mpu: int = 0
    cells: Cells = Cells.NONE

    @property
    def efficiency(self) -> Fraction:
        """The part of the link's rate that its coding leaves; ATM's cost depends on the size of each packet."""
        return Fraction(64, 65) if self.cells is Cells.PTM else Fraction(1)


# tc-cake(8), OVERHEAD COMPENSATION PARAMETERS (iproute2 6.1): its keywords behind the name of the line. DOCSIS is what
# the head-end meters, a frame with its FCS; Ethernet what the cable carries, preamble and gap included.
_ADSL = {
    "pppoa-vcmux": 10,
    "pppoa-llc": 14,
    "pppoe-vcmux": 32,
    "pppoe-llcsnap": 40,
    "bridged-vcmux": 24,
    "bridged-llcsnap": 32,
    "ipoa-vcmux": 8,
    "ipoa-llcsnap": 16,
}
_VDSL = {"pppoe-ptm": 30, "bridged-ptm": 22}

LINK_LAYERS: dict[str, LinkLayer] = {
    layer.name: layer
    for layer in (
        LinkLayer("ethernet", 38, 84),
        LinkLayer("docsis", 18, 64),
        *(LinkLayer(f"vdsl-{name}", overhead, cells=Cells.PTM) for name, overhead in _VDSL.items()),
        *(LinkLayer(f"adsl-{name}", overhead, cells=Cells.ATM) for name, overhead in _ADSL.items()),
        LinkLayer("conservative", 48, cells=Cells.ATM),
    )
}
