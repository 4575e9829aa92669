"""mmaudio: train models that give silent video its sound. One package per stage of the data's journey."""

__version__ = "0.2.0"
