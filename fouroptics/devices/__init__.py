"""Things one buys and what they can do. Plain SI floats in and out; no bench file is known here."""
