"""The catalogue: one entry for each data set of the course, with its licence and its defects.

Nothing is fetched here. `fetching.fetch` reads where to look from an entry and which checksum a
file must have. The long form of these entries, with how each defect is handled, is data/README.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published.

    `checksum` is "sha256:..." or "md5:..." of the file, or "manifest:..." where the publisher packs
    the archive anew for each download: then the digest covers the files inside
    (see `archives.manifest`). `url` is None where the file comes from a mirror only.
    """

    kind: str  # "upstream" or "mirror"
    filename: str
    checksum: str
    url: str | None = None


@dataclass(frozen=True)
class Entry:
    """What a learner must know before using a data set.

    `size` is the largest download in bytes, `unpacked` the most that its files may have together;
    more is refused. Sources are tried in their order, a mirror before the publishers.
    """

    name: str
    title: str
    task: str  # "classification", "segmentation" or "detection"
    licence: str
    citation: str
    credit: str
    size: int
    unpacked: int
    split: str
    sources: tuple[Source, ...]
    defects: tuple[str, ...]


_BCCD_COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
_BCCD_MANIFEST = "manifest:f030cf27cd33ce0f4e1920243c5a65713adaec6148ded04bf49afcf507aa09b4"

_PNEUMONIA_MD5 = "md5:28209eda62fecd6e6a2d98b1501bb15f"

_ISIC_COMMIT = "04943b8fcc29c73245d62a016437921e19327dbe"
_ISIC_MANIFEST = "manifest:e5d6451ad7aa1e063d1e540091beb523a910f044b67e9473a7513d66caf76157"

_ENTRIES = (
    Entry(
        name="pneumonia",
        title="PneumoniaMNIST",
        task="classification",
        licence="CC BY 4.0",
        citation=(
            "J. Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D "
            "biomedical image classification, Scientific Data 10, 41 (2023), "
            "https://doi.org/10.1038/s41597-022-01721-8. Images from D. S. Kermany et al., "
            "Identifying medical diagnoses and treatable diseases by image-based deep learning, "
            "Cell 172, 1122-1131 (2018), https://doi.org/10.1016/j.cell.2018.02.010"
        ),
        credit="PneumoniaMNIST (MedMNIST v2; Kermany et al. 2018), CC BY 4.0",
        size=4_200_000,
        unpacked=4_700_000,
        split="official: 4708 train, 524 val, 624 test",
        sources=(
            Source(
                "upstream",
                "pneumoniamnist.npz",
                _PNEUMONIA_MD5,
                "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
            ),
            Source(
                "upstream",
                "pneumoniamnist.npz",
                _PNEUMONIA_MD5,
                "https://huggingface.co/datasets/albertvillanova/medmnist-v2/resolve/"
                "0472595ab51916346dc4ad40f7b77551f2171403/data/pneumoniamnist.npz",
            ),
            Source(
                "mirror",
                "pneumoniamnist.npz",
                "sha256:280d456364809a7305a8416dc5c861570fc75d256f19a2572da5523dac3e8454",
            ),
        ),
        defects=(
            "exact duplicates inside train and inside test",
            "8 images of val also stand in train",
            "pneumonia is .742 of train and val, but .625 of test",
            "the order of the training images differs between the mirror and upstream",
        ),
    ),
    Entry(
        name="hippocampus",
        title="MSD Hippocampus",
        task="segmentation",
        licence="CC BY-SA 4.0",
        citation=(
            "M. Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, "
            "4128 (2022), https://doi.org/10.1038/s41467-022-30695-9. Data: "
            "http://medicaldecathlon.com, task 4, Vanderbilt University Medical Center"
        ),
        credit=(
            "MSD task 4, hippocampus (Antonelli et al. 2022; Vanderbilt University Medical "
            "Center), CC BY-SA 4.0"
        ),
        size=28_400_000,
        unpacked=28_400_000,
        split="5 folds of the 260 labelled cases, KFold(5, shuffle=True, random_state=12345)",
        sources=(
            Source(
                "upstream",
                "Task04_Hippocampus.tar",
                "md5:9d24dba78a72977dbd1d2e110310f31b",
                "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
            ),
            Source(
                "mirror",
                "Task04_Hippocampus.tar",
                "sha256:89581d965360e70ddecb9a2ac603000cec669694e40914f66e0954cc45c4e615",
            ),
        ),
        defects=(
            "the maximum intensity of a volume runs from 112 to 1.7 million",
            "the two sides of one head (cases 2k - 1 and 2k) may stand in different folds",
        ),
    ),
    Entry(
        name="bccd",
        title="BCCD",
        task="detection",
        licence="MIT",
        citation=(
            "Shenggan and contributors, BCCD Dataset: blood cell count and detection, "
            f"https://github.com/Shenggan/BCCD_Dataset, commit {_BCCD_COMMIT}"
        ),
        credit="BCCD Dataset (Shenggan and contributors), MIT",
        size=8_000_000,
        unpacked=9_000_000,
        split="official: 205 train, 87 val, 72 test",
        sources=(
            Source(
                "upstream",
                "BCCD_Dataset-d272fb14.zip",
                _BCCD_MANIFEST,
                f"https://codeload.github.com/Shenggan/BCCD_Dataset/zip/{_BCCD_COMMIT}",
            ),
            Source("mirror", "BCCD_Dataset-d272fb14.zip", _BCCD_MANIFEST),
        ),
        defects=(
            "2 boxes of red cells have no area",
            "15 images have no label for red cells though red cells are visible",
            "BloodImage_00037 (val) and BloodImage_00038 (train) are near-duplicates",
        ),
    ),
    Entry(
        name="isic2017",
        title="ISIC 2017",
        task="segmentation",
        licence="CC0 1.0",
        citation=(
            "N. C. F. Codella et al., Skin lesion analysis toward melanoma detection: a challenge "
            "at the 2017 ISBI, hosted by ISIC, IEEE ISBI 2018, 168-172, "
            "https://doi.org/10.1109/ISBI.2018.8363547. Data: https://challenge.isic-archive.com; "
            "images at 256 x 256: https://github.com/walidbousseta/image_mining, commit "
            f"{_ISIC_COMMIT}"
        ),
        credit="ISIC 2017 challenge (Codella et al. 2018), CC0 1.0",
        size=20_700_000,
        unpacked=17_000_000,
        split="the official 150 validation images are our test; val is cut from train",
        sources=(
            Source(
                "upstream",
                "image_mining-04943b8f.zip",
                _ISIC_MANIFEST,
                f"https://codeload.github.com/walidbousseta/image_mining/zip/{_ISIC_COMMIT}",
            ),
            Source("mirror", "image_mining-04943b8f.zip", _ISIC_MANIFEST),
            Source(
                "mirror",
                "isic2017-256.zip",
                "sha256:2684d8f0fdd09467c9821a983924b130d3ad1f2a3a4032841ed3fb8f666661aa",
            ),
        ),
        defects=(
            "the 150 validation images are our test: figures for the 600 official test images "
            "are of other images",
            "pixel-identical images, one pair across the official split",
            "about 20 pairs of near-duplicates",
            "no file names the persons, and neighbouring numbers can be one person: 55 of our 150 "
            "test images have a neighbour's number in train",
            "resized to 256 x 256 without keeping the aspect ratio",
        ),
    ),
)

CATALOG: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
