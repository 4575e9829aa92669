"""Media to features and latents to sound, by the pretrained or the lite backend."""
