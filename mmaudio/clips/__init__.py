"""Which piece of which file: hands on tables of clips and videos with their captions, and of what was rejected and why.

`partition` cuts long audio files into clips, `table` reads and writes what training is to use, `rejects` what it cannot.
"""
