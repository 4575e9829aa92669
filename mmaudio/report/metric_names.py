"""How metrics are called on a page, and a line on what each of them is. Units and which way is better come from the scores."""

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
    "onset_f1": "onsets that a generated sound shares with the real one of its clip",
    "onset_f1_shuffled": "the same against other clips’ real sounds: what chance gives",
    DIFFERENCE: "generated less shuffled",
    "onset_offset": "how far apart in time the onsets are that agree, early or late",
    "spectral_distance": "between average spectra",
    "mel_frechet": "between the sets of mel frames",
    "FD-VGG": "Fréchet distance of VGGish features",
    "FD-PANN": "Fréchet distance of PANNs features",
    "FD-PASST": "Fréchet distance of PaSST features",
    "KL-PANNS-softmax": "divergence of what PANNs hears",
    "KL-PASST-softmax": "divergence of what PaSST hears",
    "ISC-PANNS-mean": "Inception score of PANNs: clear and varied sounds",
    "ISC-PANNS-std": "its spread over parts of the set",
    "ISC-PASST-mean": "Inception score of PaSST: clear and varied sounds",
    "ISC-PASST-std": "its spread over parts of the set",
    "IB-Score": "ImageBind: does the sound suit the picture",
    "DeSync": "how far apart in time Synchformer finds sound and picture",
    "LAION-CLAP-Score": "LAION-CLAP: does the sound suit the caption",
    "MS-CLAP-Score": "MS-CLAP: does the sound suit the caption",
}
UNLIKE = {  # what differs, of fields of a protocol whose values say nothing to a person
    "captions_hash": "the captions",
    "ids_hash": "the clips that were scored",
    "reference_hash": "the real sounds",
}
ORDER = tuple(dict.fromkeys((*TITLES, *WHAT)))


def title_of(name: str) -> str:
    """The name of a metric as a person reads it; a published key stays as it is."""
    return TITLES.get(name, name)


def in_order(names: set[str]) -> list[str]:
    """Names in the order of the table; those it does not know come last, by name."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
