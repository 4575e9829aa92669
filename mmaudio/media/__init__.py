"""Media files to arrays and back: sound, frames of video at the two rates the encoders want, and example media made by code."""
