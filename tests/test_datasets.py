"""The four real sets, read from a mirror: splits, defects, order, and the claims of their cards."""

import functools
import io
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from course_utils.datasets import (
    CATALOG,
    Dataset,
    Split,
    copied_masks,
    duplicates,
    isic2017,
    load,
    phantom,
    pneumonia,
)
from course_utils.datasets import fetch as fetch_set
from course_utils.datasets import hippocampus as hippo
from course_utils.datasets.archives import manifest
from course_utils.datasets.catalog import Fetched
from course_utils.datasets.decoding import decode_images
from course_utils.datasets.errors import DataError, Unreachable
from course_utils.datasets.fetching import reachable
from course_utils.datasets.forms import PARTS, digest
from course_utils.datasets.sets import SETS
from course_utils.datasets.similarity import perceptual_hash


@functools.cache
def real(name: str) -> Dataset:
    archive(name)
    return load(name)


@functools.cache
def archive(name: str) -> Fetched:
    """The set's file. Where COURSE_DATA is not "real", its absence skips the test."""
    if os.environ.get("COURSE_DATA") == "real":
        return fetch_set(name)
    if reachable(name) not in ("mirror", "upstream"):
        pytest.skip(f"no copy of {name} at hand")
    try:
        return fetch_set(name)
    except Unreachable as problem:
        pytest.skip(str(problem))


def sizes(data: Dataset) -> list[int]:
    return [len(data.splits[name]) for name in ("train", "val", "test")]


def disjoint(data: Dataset) -> bool:
    ids = [name for part in data.splits.values() for name in part.ids]
    return len(set(ids)) == len(ids)


def test_the_catalogue_is_complete():
    assert {"pneumonia", "hippocampus", "bccd", "isic2017"} <= CATALOG.keys()
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert entry.task in ("classification", "segmentation", "detection")
        assert entry.licence in entry.credit
        assert "https://" in entry.citation
        assert entry.defects
        for source in entry.sources:
            algorithm, digits = source.checksum.split(":")
            assert len(digits) == {"md5": 32, "sha256": 64, "manifest": 64}[algorithm]


def test_upstream_is_what_monai_and_medmnist_name():
    from monai.apps import DecathlonDataset

    upstream = CATALOG["hippocampus"].sources[0]
    assert upstream.url == DecathlonDataset.resource["Task04_Hippocampus"]
    assert upstream.checksum == "md5:" + DecathlonDataset.md5["Task04_Hippocampus"]
    xrays = [source for source in CATALOG["pneumonia"].sources if source.kind == "upstream"]
    assert {source.checksum for source in xrays} == {"md5:28209eda62fecd6e6a2d98b1501bb15f"}
    assert [source.url.split("/")[2] for source in xrays] == ["zenodo.org", "huggingface.co"]
    assert "0472595ab51916346dc4ad40f7b77551f2171403" in xrays[1].url
    isic = CATALOG["isic2017"].sources[0]
    assert isic.url.endswith("image_mining/zip/04943b8fcc29c73245d62a016437921e19327dbe")
    assert isic.checksum.endswith(
        "e5d6451ad7aa1e063d1e540091beb523a910f044b67e9473a7513d66caf76157"
    )


@pytest.mark.parametrize("name", CATALOG)
def test_form(name):
    data = real(name)
    assert data.name == name
    assert data.label == data.title == CATALOG[name].title
    assert not data.synthetic
    assert data.task == CATALOG[name].task
    assert len(data.sha256) == 64
    assert disjoint(data)
    for part in data.splits.values():
        rows = [part.x, part.y, *part.extra.values()]
        assert {len(row) for row in rows} == {len(part)} == {len(part.ids)}
        assert all(row.is_contiguous() for row in rows)
    assert len(repr(data)) < 1000  # shapes, no pixels


@pytest.mark.parametrize("name", CATALOG)
def test_a_phantom_has_the_form_of_the_real_set(name, monkeypatch):
    monkeypatch.setattr(SETS[name], "PHANTOMS", (8, 4, 4), raising=False)
    data, drawn = real(name), phantom(name)
    assert (drawn.title, drawn.task, drawn.classes) == (data.title, data.task, data.classes)
    assert list(drawn.splits) == list(data.splits) == list(PARTS)
    for part in PARTS:
        ours, theirs = drawn.splits[part], data.splits[part]
        assert theirs.extra.keys() <= ours.extra.keys()
        for a, b in (
            (ours.x, theirs.x),
            (ours.y, theirs.y),
            *((ours.extra[key], theirs.extra[key]) for key in theirs.extra),
        ):
            assert (a.shape[1:], a.dtype) == (b.shape[1:], b.dtype)


def test_take():
    part = real("pneumonia").val
    some = part.take([5, 0])
    assert some.ids == (part.ids[5], part.ids[0])
    assert torch.equal(some.x, part.x[[5, 0]])
    assert torch.equal(some.y, part.y[[5, 0]])


def ten():
    x = torch.arange(10)
    return Split(x[:, None], x % 2, tuple("abcdefghij"), {"twice": 2 * x})


ODD = ten().y == 1


@pytest.mark.parametrize(
    ("index", "names"),
    [(ODD, "bdfhj"), (ODD.numpy(), "bdfhj"), (ODD.tolist(), "bdfhj"), (~ODD & ODD, ""),
     (slice(2, 8, 3), "cf"), (range(3), "abc"), ([-1, 0, 0], "jaa"), (np.array([4]), "e"),
     (torch.tensor([3, 1]), "db"), (torch.tensor([3, 1]).unbind(), "db"), ([], ""), ({2}, "c")],
)  # fmt: skip
def test_take_selects_by_positions_masks_and_slices(index, names):
    for some in (ten().take(index), ten()[index]):
        assert "".join(some.ids) == names and len(some) == len(names)
        rows = torch.tensor(["abcdefghij".index(name) for name in names], dtype=torch.long)
        assert torch.equal(some.x[:, 0], rows) and torch.equal(some.y, rows % 2)
        assert torch.equal(some.extra["twice"], 2 * rows)


@pytest.mark.parametrize(
    ("index", "said"),
    [(ODD[:9], r"mask of shape \(10,\)"), ([True, False], r"mask of shape \(10,\)"),
     (ODD[:, None], r"shape \(10, 1\)"), (ten().y.float(), "by float32"), ([0.0, 1.0], "by float"),
     (torch.zeros(0).bool(), "mask"), (3, "in one list"), ("ab", "in one list"),
     (ten().y, "compare first"), (ODD.byte(), "compare first"), (ten().y[:9], "compare first"),
     (ten().y.tile(4), "compare first"), (torch.arange(40) % 7, "as labels do"),
     ([[0, 1]], r"shape \(1, 2\)")],
)  # fmt: skip
def test_take_refuses_what_selects_other_cases_than_meant(index, said):
    with pytest.raises(ValueError, match=said):
        ten().take(index)


def test_a_position_without_a_case_is_refused():
    for index in ([10], [0, -11]):
        with pytest.raises(IndexError, match=r"There is no case -?1[01] among 10"):
            ten().take(index)
    for index in (10, -11):
        with pytest.raises(IndexError, match="There is no case"):
            ten()[index]


def test_one_case_is_a_pair_and_a_loader_makes_batches_of_pairs():
    part = ten()
    for index in (3, -7, torch.tensor(3), np.int64(3)):
        x, y = part[index]
        assert x.tolist() == [3] and y == 1
    assert [(int(x), int(y)) for x, y in part] == [(i, i % 2) for i in range(10)]
    batches = list(torch.utils.data.DataLoader(part, batch_size=4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in batches]), part.x)
    assert torch.equal(torch.cat([y for _, y in batches]), part.y)


def test_parts_of_different_length_are_no_split():
    x = torch.zeros(3, 1)
    with pytest.raises(ValueError, match="'x': 3, 'y': 2, 'ids': 3"):
        Split(x, x[:2], ("a", "b", "c"))
    with pytest.raises(ValueError, match="'shape': 1"):
        Split(x, x, ("a", "b", "c"), {"shape": x[:1]})


def test_pneumonia():
    data = real("pneumonia")
    assert sizes(data) == [4708, 524, 624]
    assert [int(part.y.sum()) for part in data.splits.values()] == [3494, 389, 390]
    assert data.train.x.shape == (4708, 1, 28, 28)
    assert data.train.x.dtype == torch.uint8
    assert data.train.y.dtype == torch.int64


def test_pneumonia_is_in_one_order_whatever_the_order_of_the_file(tmp_path):
    data = real("pneumonia")
    with np.load(archive("pneumonia").path) as file:
        arrays = dict(file)
    order = np.random.default_rng(0).permutation(4708)
    arrays["train_images"] = arrays["train_images"][order]
    arrays["train_labels"] = arrays["train_labels"][order]
    np.savez_compressed(tmp_path / "upstream.npz", **arrays)
    other = pneumonia.load(Fetched(tmp_path / "upstream.npz", "upstream"))
    assert other.source == "upstream"
    assert other.sha256 == data.sha256
    assert torch.equal(other.train.x, data.train.x)
    assert torch.equal(other.train.y, data.train.y)
    arrays["train_labels"][0] ^= 1
    np.savez_compressed(tmp_path / "upstream.npz", **arrays)
    assert pneumonia.load(Fetched(tmp_path / "upstream.npz", "upstream")).sha256 != data.sha256


def test_pneumonia_duplicates():
    data = real("pneumonia")
    shared = duplicates(data.train.x, data.val.x)
    assert len({j for _, j in shared}) == 8
    for i, j in shared:
        assert torch.equal(data.train.x[i], data.val.x[j])
    assert duplicates(data.train.x, data.test.x) == []
    for part in (data.train, data.test):
        within = duplicates(part.x)
        assert within
        assert all(i < j and torch.equal(part.x[i], part.x[j]) for i, j in within)
    assert any(line.startswith("8 images of val also stand in train") for line in data.notes)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no zip", b"\x93NUMPY"])
def test_a_file_that_is_not_pneumonia(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz is not the PneumoniaMNIST archive"):
        pneumonia.load(Fetched(tmp_path / "a.npz", "mirror"))


def test_pneumonia_of_another_size_is_refused(tmp_path):
    arrays = {f"{k}_images": np.zeros((2, 64, 64), np.uint8) for k in PARTS}
    arrays |= {f"{k}_labels": np.zeros((2, 1), np.uint8) for k in PARTS}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=r"a\.npz.*expected uint8 \(2, 28, 28\)"):
        pneumonia.load(Fetched(tmp_path / "a.npz", "mirror"))


@functools.cache
def cases():
    return hippo.read_cases(archive("hippocampus").path)


def test_hippocampus():
    data = real("hippocampus")
    assert len(cases()) == 260
    assert data.split == "fold 0 of 5"
    for part in data.splits.values():
        assert part.x.dtype == torch.float16
        assert part.x.shape[1:] == (1, 48, 64, 48)
        assert part.y.shape[1:] == (48, 64, 48)
        for x, y, (a, b, c) in zip(part.x, part.y, part.extra["shape"].tolist(), strict=True):
            inside, label = x[0, :a, :b, :c].float(), y[:a, :b, :c]
            assert abs(inside.mean()) < 0.01
            assert abs(inside.std() - 1) < 0.01
            assert (label.amin(), label.amax()) == (0, 2)
            assert y.count_nonzero() == label.count_nonzero()  # nothing in the filling
            assert x.count_nonzero() == inside.count_nonzero()
    shapes = torch.cat([part.extra["shape"] for part in data.splits.values()])
    assert shapes.amin(0).tolist() == [31, 40, 24]
    assert shapes.amax(0).tolist() == [43, 59, 47]
    known = set(data.train.extra["person"].tolist())
    partners = sum(person in known for person in data.test.extra["person"].tolist())
    assert partners > 0
    assert f"test: {partners} of 52 cases have their partner case in train" in data.notes


def test_hippocampus_voxels_are_the_files_own():
    data = real("hippocampus")
    name = data.test.ids[7]
    image, label = cases()[name]
    a, b, c = image.shape
    assert torch.equal(data.test.y[7, :a, :b, :c], torch.from_numpy(label))
    mine, theirs = data.test.x[7, 0, :a, :b, :c].float().numpy(), image
    assert (
        np.corrcoef(mine.ravel(), np.clip(theirs, *np.percentile(theirs, (0.5, 99.5))).ravel())[
            0, 1
        ]
        > 0.999
    )  # a linear map of the clipped voxels, none transposed


def test_hippocampus_folds():
    every = hippo._stack(cases())
    order = np.arange(260)
    np.random.RandomState(12345).shuffle(order)
    tested = []
    for fold in range(5):
        splits = hippo.split_folds(every, fold)
        expected = np.sort(order[52 * fold : 52 * fold + 52])
        assert splits["test"].ids == tuple(every.ids[i] for i in expected)
        names = [name for part in splits.values() for name in part.ids]
        assert sorted(names) == sorted(every.ids)
        assert 25 <= len(splits["val"]) <= 40
        train, val = (set(splits[k].extra["person"].tolist()) for k in ("train", "val"))
        assert not train & val
        tested += splits["test"].ids
    assert sorted(tested) == sorted(every.ids)
    with pytest.raises(ValueError, match="0 to 4"):
        hippo.split_folds(every, 5)


def _step(volume: np.ndarray) -> float | None:
    """The intensity of which every voxel is a whole multiple; None where there is none to find."""
    values = np.unique(volume.astype(np.float64))
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-6 * values.max()]
    step = np.median(gaps[gaps < 1.5 * gaps.min()])
    counts = np.round(values / step)
    step = (values * counts).sum() / (counts**2).sum()
    regular = np.abs(values / step - np.round(values / step)).max() < 0.02
    return float(step) if regular and volume.dtype == np.float32 else None


def test_two_cases_of_a_scan_share_its_intensity_step():
    steps = {int(name[-3:]): _step(image) for name, (image, _) in cases().items()}
    steps = {case: step for case, step in steps.items() if step is not None}
    same = {0: [], 1: []}
    for case, step in steps.items():
        if case + 1 in steps:
            same[case % 2].append(abs(steps[case + 1] / step - 1) < 1e-4)
    assert (len(same[1]), sum(same[1])) == (71, 71)  # cases 2k - 1 and 2k: one person
    assert (len(same[0]), sum(same[0])) == (59, 0)  # cases 2k and 2k + 1: two
    assert hippo.person_of("hippocampus_007") == hippo.person_of("hippocampus_008") == 4


def test_the_upstream_archive_of_the_hippocampus_has_more_files(tmp_path):
    with tarfile.open(archive("hippocampus").path) as source:
        members = [m for m in source.getmembers() if m.isfile()][:10]
        files = {m.name: source.extractfile(m).read() for m in members}
    assert len(files) == 10
    extra = {
        "Task04_Hippocampus/imagesTs/hippocampus_002.nii.gz": b"not read",
        "Task04_Hippocampus/imagesTr/._hippocampus_001.nii.gz": b"not read",
        "Task04_Hippocampus/dataset.json": b"{}",
    }
    with tarfile.open(tmp_path / "upstream.tar", "w") as target:
        for name, content in reversed((files | extra).items()):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    found = hippo.read_cases(tmp_path / "upstream.tar")
    assert list(found) == list(cases())[:5]
    for name, (image, label) in found.items():
        assert np.array_equal(image, cases()[name][0])
        assert np.array_equal(label, cases()[name][1])


def test_bccd():
    data = real("bccd")
    assert sizes(data) == [205, 87, 72]
    assert data.train.x.shape == (205, 3, 480, 640)
    boxes = torch.cat([part.y for part in data.splits.values()]).reshape(-1, 5)
    boxes = boxes[boxes[:, 0] >= 0]
    assert boxes[:, 0].long().bincount().tolist() == [4155 - 2, 372, 361]
    assert (boxes[:, 3] > boxes[:, 1]).all()
    assert (boxes[:, 4] > boxes[:, 2]).all()
    assert boxes[:, 1:].amin() >= 1
    assert (boxes[:, 3].amax(), boxes[:, 4].amax()) == (640, 480)
    assert "2 boxes without area dropped (BloodImage_00338, BloodImage_00343)" in data.notes
    bare = [int((part.y[:, :, 0] != 0).all(1).sum()) for part in data.splits.values()]
    assert bare == [8, 4, 3]
    for part in data.splits.values():  # boxes first, then padding
        filled = part.y[:, :, 0] >= 0
        assert (filled.sum(1, keepdim=True) > torch.arange(30)).equal(filled)


def test_bccd_images_and_boxes_belong_together():
    """White cells are stained purple: less green in their boxes than in the image."""
    part = real("bccd").test
    green = part.x[:, 1].float()
    inside, outside = [], []
    for i, rows in enumerate(part.y):
        for kind, x1, y1, x2, y2 in rows.int().tolist():
            if kind == 1:
                inside.append(green[i, y1:y2, x1:x2].mean())
                outside.append(green[i].mean())
    assert len(inside) == 71
    assert (torch.stack(inside) < torch.stack(outside)).float().mean() > 0.95


def test_bccd_from_a_repacked_archive_is_the_same_data(tmp_path):
    from course_utils.datasets import bccd

    ours = archive("bccd")
    with zipfile.ZipFile(ours.path) as source, zipfile.ZipFile(tmp_path / "b.zip", "w") as target:
        for name in reversed(source.namelist()):
            target.writestr("BCCD_Dataset-d272fb1/" + name.split("/", 1)[1], source.read(name))
        target.writestr("BCCD_Dataset-d272fb1/example.jpg", b"more")
    entry = CATALOG["bccd"]
    found = manifest(tmp_path / "b.zip", entry.members, entry.unpacked)
    assert "manifest:" + found == entry.sources[0].checksum
    other = bccd.load(Fetched(tmp_path / "b.zip", "upstream"))
    assert other.sha256 == real("bccd").sha256
    assert torch.equal(other.test.y, real("bccd").test.y)


def test_isic():
    data = real("isic2017")
    assert sizes(data) == [1798, 198, 150]
    for part in data.splits.values():
        assert part.x.shape[1:] == (3, 256, 256)
        assert (part.y.amin(), part.y.amax()) == (0, 1)
        assert part.y.flatten(1).any(1).all()
    melanoma = {k: int(part.extra["melanoma"].sum()) for k, part in data.splits.items()}
    assert melanoma["test"] == 30
    assert 374 - 4 <= melanoma["train"] + melanoma["val"] <= 374
    ages = torch.cat([part.extra["age"] for part in data.splits.values()])
    assert 250 < int(ages.isnan().sum()) <= 257
    assert ages[~ages.isnan()].amax() == 85


def test_numbers_of_isic_that_may_be_one_person():
    """The card's count of test images with a neighbour's number in train."""
    data = real("isic2017")
    train = {int(name.removeprefix("ISIC_")) for name in data.train.ids}
    near = [{n - 1, n + 1} & train for n in (int(name[5:]) for name in data.test.ids)]
    assert sum(map(bool, near)) == 55
    assert {14596, 14598} <= train and "ISIC_0014597" in data.test.ids


def test_isic_lesions_are_darker_than_the_skin():
    part = real("isic2017").test
    grey, mask = part.x.float().mean(1), part.y == 1
    inside = (grey * mask).sum((1, 2)) / mask.sum((1, 2))
    outside = (grey * ~mask).sum((1, 2)) / (~mask).sum((1, 2))
    assert (inside < outside).float().mean() > 0.95


def test_no_lesion_of_isic_crosses_the_split():
    data = real("isic2017")
    where = {name: split for split, part in data.splits.items() for name in part.ids}
    dropped = []
    for pair in isic2017.SAME_LESION:
        found = [where.get(name) for name in pair]
        if "test" in found:
            dropped.append(pair[0])
            assert found == [None, "test"]
        else:
            assert found[0] == found[1] != "test"
    assert len(dropped) == 4
    assert len(where) == 2000 + 150 - len(dropped)
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert duplicates(data.splits[a].x, data.splits[b].x) == []


def test_every_clear_near_duplicate_of_isic_is_in_the_table():
    data = real("isic2017")
    ids = [name for part in data.splits.values() for name in part.ids]
    row = {name: i for i, name in enumerate(ids)}
    x = torch.cat([part.x for part in data.splits.values()])
    h = perceptual_hash(x).float()
    distance = h @ (1 - h).T + (1 - h) @ h.T
    grey = torch.cat([part[:, :, ::8, ::8].float().mean(1).flatten(1) for part in x.split(64)])
    pattern = grey - grey.mean(1, keepdim=True)
    likeness = F.normalize(pattern) @ F.normalize(pattern).T
    clear = ((distance <= 4) & (likeness > 0.93)).triu(1).nonzero().tolist()
    table = {frozenset(pair) for pair in isic2017.SAME_LESION}
    assert len(clear) >= 8
    assert {frozenset((ids[i], ids[j])) for i, j in clear} <= table
    kept = [(row[a], row[b]) for a, b in isic2017.SAME_LESION if a in row and b in row]
    assert len(kept) == 20
    assert max(distance[i, j] for i, j in kept) <= 24 < distance.median()


def test_digest_sees_names_types_and_order():
    a, b = torch.arange(4), torch.arange(4).reshape(2, 2)
    assert digest([("a", a), ("b", b"xy")]) == digest([("a", a.clone()), ("b", b"xy")])
    others = [
        [("b", b"xy"), ("a", a)],
        [("a", b), ("b", b"xy")],
        [("a", a.int()), ("b", b"xy")],
        [("c", a), ("b", b"xy")],
        [("a", a), ("b", b"xz")],
    ]
    assert len({digest(pieces) for pieces in others} | {digest([("a", a), ("b", b"xy")])}) == 6


def test_duplicates_on_a_small_example():
    x = torch.tensor([[1, 2], [3, 4], [1, 2], [1, 2]])
    assert duplicates(x) == [(0, 2), (0, 3), (2, 3)]
    assert duplicates(x, torch.tensor([[3, 4], [5, 6]])) == [(1, 0)]
    assert len(Split(x, x, ("a", "b", "c", "d"))) == 4


def stored(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"name": file.getvalue()}


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], 2)


def decoded(image, mode="RGB", **options):
    return decode_images(stored(image, **options), (6, 8), mode)[0]


def test_images_are_decoded_value_by_value():
    photo = Image.fromarray(COLOUR)
    palette = Image.fromarray(GREY % 3).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = torch.eye(3)[torch.from_numpy(GREY % 3).long()].permute(2, 0, 1) * 255
    assert torch.equal(decoded(photo), torch.from_numpy(COLOUR).permute(2, 0, 1))
    assert torch.equal(decoded(Image.fromarray(GREY), "L")[0], torch.from_numpy(GREY))
    assert torch.equal(decoded(Image.fromarray(GREY)), torch.from_numpy(GREY).expand(3, -1, -1))
    assert torch.equal(decoded(palette), colours.to(torch.uint8))
    assert decoded(Image.fromarray(GREY > 99), "L").unique().tolist() == [0, 255]
    opaque = photo.copy()
    opaque.putalpha(255)
    assert torch.equal(decoded(opaque), decoded(photo))


def transparent():
    image = Image.fromarray(COLOUR)
    image.putalpha(Image.fromarray(GREY))
    return image


@pytest.mark.parametrize(
    ("image", "mode", "options", "said"),
    [
        (Image.fromarray(GREY.astype(np.uint16) * 200), "L", {}, "more than 8 bits"),
        (Image.fromarray(GREY.astype(np.uint16) * 200), "RGB", {}, "more than 8 bits"),
        (Image.fromarray(GREY.astype(np.float32)), "L", {"kind": "TIFF"}, "not a readable image"),
        (Image.fromarray(GREY % 3).convert("P"), "L", {}, "a palette. Read its numbers"),
        (transparent(), "RGB", {}, "transparent pixels"),
        (transparent().convert("LA"), "L", {}, "transparent pixels"),
        (Image.fromarray(GREY), "RGB", {"transparency": 0}, "transparent pixels"),
        (Image.fromarray(COLOUR).convert("CMYK"), "RGB", {"kind": "JPEG"}, "colours of ink"),
    ],
)
def test_images_that_would_change_on_decoding_are_refused(image, mode, options, said):
    with pytest.raises(DataError, match=said):
        decoded(image, mode, **options)
    with pytest.raises(ValueError, match="expected 'RGB'"):
        decoded(image, "F", **options)


@pytest.mark.parametrize(
    ("bits", "colours", "said"),
    [(16, True, "more than 8 bits"), (2, False, "2 or 4 bits a value"), (4, False, "2 or 4 bits")],
)
def test_depths_that_pil_would_scale_are_refused(bits, colours, said):
    """Of colours with 16 bits it keeps the upper half of each value; of grey 1 becomes 85 or 17."""
    rows = b"".join(b"\0" + bytes(range(bits * (3 if colours else 1) // 2)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, bits, 2 if colours else 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    for mode in ("RGB", "L"):
        with pytest.raises(DataError, match=said):
            decode_images({"a.png": png}, (4, 4), mode)


def test_perceptual_hash_survives_brightness_and_blur_not_another_pattern():
    g = torch.Generator().manual_seed(0)
    x = F.interpolate(torch.rand(20, 3, 6, 6, generator=g), 64, mode="bicubic") * 200
    same = perceptual_hash(F.avg_pool2d(x, 3, 1, 1) * 0.8 + 20)
    far = (perceptual_hash(x) != same).sum(1)
    assert far.max() <= 8
    others = (perceptual_hash(x) != perceptual_hash(x).roll(1, 0)).sum(1)
    assert others.min() > 12


def test_copied_masks_with_and_without_partners():
    masks = torch.zeros(5, 4, 4, dtype=torch.bool)
    masks[:2, :2] = True  # partners with one mask
    masks[2:4, 2:] = True  # and two others, with another
    masks[4, 0] = True  # alone in its group: copied from, not scored
    looks, group = torch.tensor([[0.0], [0.1], [1.0], [1.3], [5.0]]), torch.tensor([7, 7, 2, 2, 9])
    found = copied_masks(looks, masks, group)
    assert found == {
        "cases": 4,
        "groups": 2,
        "Dice with the leak": "1.000",
        "Dice without": "0.000",
        "gain": "+1.000 ± 0.000",
    }


def test_a_volume_is_stretched_voxel_by_voxel():
    volume = torch.arange(24).view(2, 3, 4)
    assert torch.equal(hippo.stretch(volume, (2, 3, 4)), volume)
    assert torch.equal(hippo.stretch(hippo.stretch(volume, (4, 9, 8)), (2, 3, 4)), volume)
    twice = volume.repeat_interleave(2, 0).repeat_interleave(2, 2)
    assert torch.equal(hippo.stretch(volume, (4, 3, 8)), twice)
