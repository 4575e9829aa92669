"""Which piece of which file: hands on tables of clips and videos with their captions, and of what was rejected and why.

`cutting` says where a recording of a known length is cut and `partition` does it for the files of a folder; `table` reads
and writes what training is to use, `rejects` what it cannot.
"""
