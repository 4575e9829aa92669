"""How metrics are called on a page, and a line on what each of them is."""

from mmaudio.report.content import Better

DIFFERENCE = "onset_f1_difference"
TITLES = {
    "onset_f1": "Onset F1",
    "onset_f1_shuffled": "Onset F1, shuffled",
    DIFFERENCE: "Onset F1, difference",
    "onset_offset": "Mean onset offset",
    "spectral_distance": "Spectral distance",
    "mel_frechet": "Mel Fréchet distance",
}
WHAT = {
    "onset_f1": "onsets of a generated sound found in the real one of its clip",
    "onset_f1_shuffled": "the same against other clips' real sounds: what chance gives",
    DIFFERENCE: "generated less shuffled",
    "onset_offset": "of the onsets that agree; above 0: generated late",
    "spectral_distance": "between average spectra",
    "mel_frechet": "between the sets of mel frames",
    "FD-VGG": "Fréchet distance of VGGish features",
    "FD-PANN": "Fréchet distance of PANNs features",
    "FD-PASST": "Fréchet distance of PaSST features",
    "KL-PANNS-softmax": "divergence of what PANNs hears",
    "KL-PASST-softmax": "divergence of what PaSST hears",
    "ISC-PANNS-mean": "Inception score of PANNs: clear and varied sounds",
    "ISC-PANNS-std": "its spread over splits",
    "ISC-PASST-mean": "Inception score of PaSST: clear and varied sounds",
    "ISC-PASST-std": "its spread over splits",
    "IB-Score": "ImageBind: does the sound suit the picture",
    "DeSync": "offset between sound and picture that Synchformer sees",
    "LAION-CLAP-Score": "LAION-CLAP: does the sound suit the caption",
    "MS-CLAP-Score": "MS-CLAP: does the sound suit the caption",
}
BETTER: dict[str, Better] = {  # where it is not what a file of scores says
    "onset_f1_shuffled": "",
    "onset_offset": "nearer 0",
    "ISC-PANNS-std": "",
    "ISC-PASST-std": "",
}
ORDER = tuple(dict.fromkeys((*TITLES, *WHAT)))


def title_of(name: str) -> str:
    """The name of a metric as a person reads it; a published key stays as it is."""
    return TITLES.get(name, name)


def in_order(names: set[str]) -> list[str]:
    """Names in the order of the table; those it does not know come last, by name."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
