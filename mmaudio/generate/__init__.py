"""Weights and conditions to sound: latents sampled by the flow, decoded, and written as files a person can play."""
