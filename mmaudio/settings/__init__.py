"""From config/ and the words of a command line to frozen settings, composed once."""
