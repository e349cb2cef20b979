"""Full disks, folders that cannot be written and damaged files: words and a remedy, from all."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bench
import pytest
import torch

from course_utils import checks, cli, ledger, runtime, storage, weights
from course_utils.building import lab
from course_utils.exercises import exercise, progress

SCRIPT = """
import json, sys
if sys.argv[2] == "full":
    import resource
    # Python's search for a temporary folder writes four bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, resource.RLIM_INFINITY))
from course_utils import checks, cli, runtime
checks._loading = checks._profile  # it takes long, and writes nothing
assert str(runtime.ROOT) == sys.argv[3]
for words in json.loads(sys.argv[1]):
    print("##", *words, flush=True)
    sys.stderr.write("## " + " ".join(words) + "\\n")
    print("\\nstatus", cli.main(words), flush=True)
"""
WRITING = [
    ["run", "00", "--profile", "smoke"],
    ["lab", "--no-browser"],
    ["results", "--readme"],
    ["experiment", "first_model", "--seeds", "1", "--arm", "control", "--profile", "smoke"],
    ["weights", "pneumonia"],
    ["bench", "attention"],
    ["bench", "train"],
    ["notebooks", "--all", "00"],
    ["check"],
]
READING = [["data", "list"], ["data", "path"], ["data", "verify"], ["progress"], ["results"]]
DATA = ["data", "get", "pneumonia"]  # its words are those of the data layer


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the commands need, with weights to publish and no other place to write."""
    copy = tmp_path / "course"
    no_caches = shutil.ignore_patterns("__pycache__", "*.ipynb")
    for name in ("course_utils", "notebooks", "results"):
        shutil.copytree(runtime.ROOT / name, copy / name, ignore=no_caches)
    shutil.copy(runtime.ROOT / "notebooks" / "00_start_here.ipynb", copy / "notebooks")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(runtime.ROOT / name, copy)
    (copy / "build" / "weights").mkdir(parents=True)
    (copy / "my_course").mkdir()
    trained = copy / "build" / "weights" / "pneumonia-attention-0-standard.safetensors"
    shutil.copy(copy / "results" / "weights" / "pneumonia.safetensors", trained)
    (copy / "README.md").write_text(
        (copy / "README.md").read_text().replace("| task | arm |", "| old |")
    )
    return copy


def answers(checkout, commands, how=""):
    """What each command says, on both streams, and its status."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("COURSE_")}
    home = {"HOME": str(checkout / "home"), "MPLCONFIGDIR": str(checkout.parent / "mpl")}
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands), how, str(checkout)],
        capture_output=True,
        text=True,
        cwd=checkout,
        env=keep | home | proxy | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert done.returncode == 0, done.stderr
    said = dict.fromkeys((" ".join(words) for words in commands), "")
    status = {}
    for stream in (done.stdout, done.stderr):
        for line in stream.splitlines():
            if line.startswith("## "):
                now = line[3:]
            elif line.startswith("status "):
                status[now] = int(line.split()[1])
            else:
                said[now] += line + "\n"
    return said, status


@pytest.mark.slow
def test_every_command_has_words_for_a_full_disk(checkout):
    pytest.importorskip("resource", reason="Windows has no limit for the size of files")
    said, status = answers(checkout, [*WRITING, *READING, DATA], "full")
    for words in WRITING:
        name = " ".join(words)
        assert status[name] == 1, (name, said[name])
        place = tempfile.gettempdir() if words[0] == "notebooks" else str(checkout)
        assert "File too large" in said[name] and place in said[name], said[name]
        assert "ree some space" in said[name], said[name]
    assert "COURSE_RESULTS" in said["bench attention"]
    assert all(status[" ".join(words)] == 0 for words in READING)
    assert status[" ".join(DATA)] == 1
    assert not list(checkout.rglob("*.part")), "what could not be finished is deleted"
    assert "| old |" in (checkout / "README.md").read_text(), "the page is as it was"


@pytest.mark.slow
def test_every_command_has_words_for_a_checkout_that_is_read_only(checkout):
    mounted = [
        ["mount", "--bind", checkout, checkout],
        ["mount", "-o", "remount,bind,ro", checkout],
    ]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can make a folder read-only for root")
    if any(subprocess.run(words, capture_output=True).returncode for words in mounted):
        subprocess.run(["umount", checkout], capture_output=True)
        pytest.skip("nothing can be mounted here")
    try:
        said, status = answers(checkout, [*WRITING, *READING, DATA])
    finally:
        subprocess.run(["umount", checkout], check=True)
    for words in WRITING:
        name = " ".join(words)
        assert status[name] == 1, (name, said[name])
        assert "Read-only file system" in said[name] and str(checkout) in said[name], said[name]
        assert "folder that you may" in said[name], said[name]
    assert "copy the course to a folder of your own" in said["run 00 --profile smoke"]
    assert all(status[" ".join(words)] == 0 for words in READING)
    assert status[" ".join(DATA)] == 1 and str(checkout) in said[" ".join(DATA)]


@pytest.mark.slow
def test_a_file_where_a_folder_should_be_is_named(checkout):
    for name in ("build", "my_course", "data", "results"):
        if (checkout / name).is_dir():
            shutil.rmtree(checkout / name)
        (checkout / name).write_text("in the way")
    commands = [WRITING[0], WRITING[1], WRITING[3], WRITING[5], ["check"]]
    said, status = answers(checkout, commands)
    for words, blocker in zip(
        commands, ("build", "my_course", "results", "results", "build"), strict=True
    ):
        name = " ".join(words)
        assert status[name] == 1, (name, said[name])
        assert f"{checkout / blocker} is a file where a folder is needed" in said[name], said[name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_output_to_a_full_disk_or_a_closed_pipe_ends_with_words():
    command = [sys.executable, "-m", "course_utils.cli", "data", "path"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    said = "course: No space left on device. Free some space on the disk."
    assert done.stderr.strip() == said
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 1
    process.stderr.close()


def test_lab_names_a_folder_of_jupyter_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "jupyter").write_text("in the way")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter" / "runtime"))
    monkeypatch.setattr(lab, "copy_notebooks", lambda mine: [])
    monkeypatch.setattr(lab, "_run", lambda *_: pytest.fail("it would end with a traceback"))
    assert cli.main(["lab"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'jupyter'} is a file where a folder is needed" in said
    assert "JUPYTER_RUNTIME_DIR" in said


def refused(number, path):
    return OSError(number, os.strerror(number), str(path))


def test_words_fit_the_place(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", tmp_path / "course")
    for name in ("COURSE_RESULTS", "COURSE_DATA_CACHE", "COURSE_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "course"
    for place, words in (
        ("results/a.jsonl", "set COURSE_RESULTS"),
        ("data/cache/a.npz", "set COURSE_DATA_CACHE"),
        ("my_course/progress.json", "set COURSE_PROGRESS"),
        ("build/a.html", "copy the course"),
    ):
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            said = storage.in_words(refused(number, root / place))
            assert words in said and str(root / place) in said
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path / "mine"))
    assert "COURSE_RESULTS" in storage.in_words(refused(errno.ENOSPC, tmp_path / "mine" / "a"))
    assert "JUPYTER" in storage.in_words(refused(errno.EROFS, tmp_path / "jupyter" / "runtime"))
    missing = storage.in_words(refused(errno.ENOENT, root / "notebooks" / "source" / "a.md"))
    assert "git checkout -- notebooks/source/a.md" in missing
    assert storage.in_words(OSError("odd")) == "odd."
    nowhere = OSError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert "TMPDIR" in storage.in_words(nowhere)


def test_a_folder_that_may_not_be_entered_has_words_too(tmp_path, monkeypatch):
    """There Python before 3.14 raises where it is asked whether something exists."""
    inside = tmp_path / "closed" / "data" / "a.npz"

    def closed(path, *_, **__):
        raise refused(errno.EACCES, path)

    for question in ("exists", "is_dir"):
        monkeypatch.setattr(Path, question, closed)
    assert storage.nearest(inside) == tmp_path
    said = storage.in_words(refused(errno.EACCES, inside))
    assert f"Make {inside.parent} a folder that you may write" in said


def test_a_probe_that_somebody_looks_at_is_no_refusal(tmp_path, monkeypatch):
    """As a virus scanner on Windows does."""
    unlink = Path.unlink

    def busy(path, missing_ok=False):
        if path.name == f".course-{os.getpid()}":
            raise refused(errno.EACCES, path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", busy)
    storage.try_writing(tmp_path)


def test_a_package_that_is_missing_is_no_traceback(monkeypatch, capsys):
    def broken():
        raise ImportError("libtorch.so: cannot open")

    monkeypatch.setattr(cli, "_progress", broken)
    assert cli.main(["progress"]) == 1
    assert "`course check` says what to do" in capsys.readouterr().err


def test_what_is_written_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "page.html"
    storage.write(path, "old")

    def full(self, text, encoding, newline):
        with self.open("w") as file:
            file.write(text[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError) as failure:
            storage.write(path, "new and longer")
    assert failure.value.filename == str(path)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    tensors = {"a": torch.arange(3.0)}
    storage.save_tensors(tensors, tmp_path / "t.safetensors", {"run": "1"})
    found, metadata = storage.load_tensors(tmp_path / "t.safetensors", "")
    assert torch.equal(found["a"], tensors["a"]) and metadata == {"run": "1"}


LIMITED = """
import resource, sys, torch
from pathlib import Path
from course_utils import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    storage.save_tensors({"a": torch.zeros(5000)}, Path(sys.argv[1]))
except OSError as problem:
    print(storage.in_words(problem))
"""


def test_tensors_that_do_not_fit_on_the_disk_name_their_file(tmp_path):
    pytest.importorskip("resource", reason="Windows has no limit for the size of files")
    path = tmp_path / "a.safetensors"
    said = subprocess.check_output([sys.executable, "-c", LIMITED, path], text=True)
    assert said.startswith(f"{path}: File too large. Free some space")
    assert not list(tmp_path.iterdir())


# Damaged files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"version https://git-lfs", b"half"])
def test_damaged_weights_are_named_with_what_brings_them_back(content, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    stored = (runtime.ROOT / "results" / "weights" / "pneumonia.safetensors").read_bytes()
    path = tmp_path / "weights" / "pneumonia.safetensors"
    path.parent.mkdir()
    path.write_bytes(stored[: len(stored) // 2] if content == b"half" else content)
    with pytest.raises(ValueError, match=r"git checkout -- results/weights/pneumonia\.safetensors"):
        weights.from_pretrained("pneumonia")


def test_damaged_tables_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    (tmp_path / bench.RECORD).write_text('{"device": "a C')
    with pytest.raises(
        ValueError, match=r"bench_attention.json is damaged.*course bench attention"
    ):
        bench.markdown()
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    for content in (b"", b"a,b\n1,2\n", b'"\n', b"\xff\xfe\x00"):
        (tmp_path / "results" / "published.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"git checkout -- results/published\.csv"):
            ledger.published("pneumonia")


def test_damaged_progress_is_said_once_and_kept_aside(tmp_path, monkeypatch, capsys):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("COURSE_PROGRESS", str(path))
    path.write_text('{"solved": ["start.maj')
    assert exercise("start.majority_accuracy").check(0.625).passed
    said = capsys.readouterr().out
    assert "is damaged" in said and "kept as progress.json.damaged" in said
    assert (tmp_path / "progress.json.damaged").read_text() == '{"solved": ["start.maj'
    assert progress()[0]["solved"] == 1
    assert "damaged" not in capsys.readouterr().out


# `course check` ---------------------------------------------------------------------------------


def test_a_check_that_fails_is_something_to_do(monkeypatch, capsys):
    def looks_fine():
        return True, "fine"

    for name in ("_packages", "_loading", "_device", "_data"):
        monkeypatch.setattr(checks, name, looks_fine)

    def _kernel():
        raise AttributeError("something odd\nand more")

    monkeypatch.setattr(checks, "_kernel", _kernel)
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    assert not checks.check()
    said = capsys.readouterr().out
    assert "[TO DO] Kernel: something odd\n" in said
    assert "[TO DO] Profile: COURSE_PROFILE is 'fast'. Expected one of" in said
    assert "[OK] Disk" in said, "the others are still run"


def test_packages_are_loaded_and_not_only_counted(monkeypatch, tmp_path, capsys):
    from packaging.requirements import Requirement

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "good.py").write_text("print('noise of its own')")
    (tmp_path / "torn.py").write_text("import no_such_library")
    (tmp_path / "fatal.py").write_text("import os; os.abort()")
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(checks, "_version", lambda name: "1")

    def lines(*names):
        monkeypatch.setattr(checks, "_requirements", lambda: [Requirement(n) for n in names])
        return checks._loading()

    assert lines("good") == [(True, "1 packages load")]
    ((good, text),) = lines("good", "torn")
    assert not good and text.startswith("torn does not load (ModuleNotFoundError No module named")
    ((good, text),) = lines("fatal", "good")
    assert not good and text.startswith(f"fatal {checks._ENDS}")
    assert "--force-reinstall --no-deps fatal" in text
    monkeypatch.setattr(checks, "_device", lambda: pytest.fail("it would end this Python"))
    assert not checks.check()
    monkeypatch.setattr(checks, "LOAD_SECONDS", 2)
    ((good, text),) = lines("slow")
    assert not good and "slow does not load within 2 s" in text
    assert lines() == [(False, "0 packages load")]


def test_a_gpu_that_fails_or_cannot_be_used_is_seen(monkeypatch):
    assert checks._device()[0]
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", lambda x, w: (w * 2).sum())
        good, text = checks._device()
        assert not good and "it computes 18 where 324 is right" in text
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "device", lambda: torch.device("cuda"))
        patch.setattr(runtime, "precision", lambda where: ("32-true", ""))
        good, text = checks._device()
        assert not good and "Device: cuda fails" in text and "CUDA_VISIBLE_DEVICES=-1" in text

    def too_old():
        import warnings

        warnings.warn("CUDA initialization: The NVIDIA driver is too old", stacklevel=1)
        return torch.device("cpu")

    monkeypatch.setattr(runtime, "device", too_old)
    good, text = checks._device()
    assert not good and "the GPU is not used (CUDA initialization: The NVIDIA driver" in text


def test_an_install_that_is_not_this_checkout_is_seen(monkeypatch, tmp_path):
    class Found:
        text = None

        def read_text(self, name):
            return self.text

    found = Found()
    left_by_building = Found()  # in the course's own folder, and seen first
    monkeypatch.setattr(checks, "distributions", lambda name: [left_by_building, found])
    assert "a copy is installed, not this folder" in checks._install()[1]
    url = (tmp_path / "other").as_uri()
    found.text = json.dumps({"url": url, "dir_info": {"editable": True}})
    assert f"set up for {tmp_path / 'other'}" in checks._install()[1]
    found.text = json.dumps({"url": runtime.ROOT.as_uri(), "dir_info": {"editable": True}})
    assert checks._install()[0]
    monkeypatch.setattr(checks, "distributions", lambda name: [])
    assert "it is not installed in" in checks._install()[1]


def test_free_space_is_that_of_the_disk_of_cache_and_build(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "not" / "yet" / "there"))
    asked = []
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage(path))
    assert checks._disk()
    assert asked[0] == tmp_path
