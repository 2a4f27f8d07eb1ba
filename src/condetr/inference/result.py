"""The detections in an image together with the image, to look at."""

import base64
import html
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from condetr.inference.drawing import draw_detections
from condetr.inference.pixels import Picture, read_pixels
from condetr.shapes import Detections
from condetr.words import counted

LARGEST_SHOWN_WH = (960, 960)
"""Of a picture inside a notebook."""


@dataclass(frozen=True, kw_only=True)
class Result(Detections):
    """The detections in one image, best first, and the image; a notebook shows both."""

    image: Picture = field(repr=False, compare=False)
    """As it was given."""
    least: float = 0.0
    """The threshold that was used."""

    def alone(self) -> Detections:
        """Return the detections without the image, which they otherwise keep in memory."""
        return Detections(**{name: value for name, value in vars(self).items() if name not in ("image", "least")})

    def draw(self) -> Image.Image:
        """Return the image with a box, the class name and the score of every detection."""
        pixels = read_pixels(self.image).permute(1, 2, 0).numpy()
        return draw_detections(Image.fromarray(np.ascontiguousarray(pixels)), self)

    def _repr_html_(self) -> str:
        """Return the picture for a notebook."""
        picture, stream = self.draw(), io.BytesIO()
        picture.thumbnail(LARGEST_SHOWN_WH)
        picture.save(stream, format="JPEG", quality=88)
        names = dict.fromkeys(self.names)
        told = ", ".join(f"{self.names.count(name)} {name}" for name in names)
        caption = f"{counted(len(self), 'object')} with a score of {self.least:g} or more" + (told and f": {told}")
        data = base64.b64encode(stream.getvalue()).decode()
        return (
            f'<figure style="margin:0"><img src="data:image/jpeg;base64,{data}" style="max-width:100%">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
