"""`mmaudio evaluate`: numbers of a run or a model (key=value), of a folder of sounds (options), or of two results (`compare`)."""

from collections.abc import Sequence

HELP = """usage: mmaudio evaluate KEY=VALUE …             sample a whole set and score it, as evaluate.py does
       mmaudio evaluate --generated DIR …       score a folder of sounds (mmaudio evaluate --help has the options)
       mmaudio evaluate --generated_cache DIR … score cached features of av-bench (--generated_cache --help)
       mmaudio evaluate compare A.json B.json   hold two files of scores side by side
"""


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["compare"]:
        from mmaudio.commands.evaluate_compare import main as compare

        return compare(argv[1:])
    if argv and not argv[0].startswith("-"):
        from mmaudio.commands.evaluation.entry import main as by_settings

        return by_settings(argv)
    if any(word.split("=")[0] == "--generated_cache" for word in argv):
        from mmaudio.commands.evaluate_caches import main as of_caches

        return of_caches(["--help"] if "--help" in argv else argv)
    from mmaudio.commands.evaluate_folder import main as of_folder

    return of_folder(argv)
