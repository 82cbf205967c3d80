"""``edge-claid live`` from the outside: what it refuses, and a real clip looked at with the real networks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from edge_claid.cli.live import paired_boxes
from edge_claid.errors import UsageError

LIVE = [sys.executable, "-m", "edge_claid", "live"]


def test_boxes_belong_to_pictures_in_order():
    assert paired_boxes([], []) == []
    assert paired_boxes(["a"], []) == [("a", None)]
    assert paired_boxes(["a"], ["1,2,3,4", "5,6,7,8"]) == [("a", (1, 2, 3, 4)), ("a", (5, 6, 7, 8))]
    assert paired_boxes(["a", "b"], ["1,2,3,4", "all"]) == [("a", (1, 2, 3, 4)), ("b", None)]
    for pictures, boxes in ((["a", "b"], ["1,2,3,4"]), ([], ["1,2,3,4"]), (["a"], ["1,2,3"])):
        with pytest.raises(UsageError, match="box"):
            paired_boxes(pictures, boxes)


def run(*arguments, **kwargs):
    return subprocess.run([*LIVE, *map(str, arguments)], capture_output=True, text=True, timeout=300, **kwargs)


def test_what_cannot_work_is_refused_before_the_networks_are_loaded(tmp_path):
    cases = (
        (["x.mp4", "--gallery", tmp_path / "g.claid", "--save", "out.gif"], 2, "out.gif"),
        (["x.mp4", "--gallery", tmp_path / "g.claid", "--save", tmp_path / "no" / "o.mp4"], 9, "no folder"),
        (["x.mp4", "--gallery", tmp_path / "g.claid", "--box", "1,2,3,4"], 2, "--find"),
        (["x.mp4", "--gallery", tmp_path / "g.claid", "--match", "0.5", "--false-alarms-per-hour", "1"], 2, "one of"),
        (["x.mp4", "--gallery", tmp_path / "g.claid"], 2, "x.mp4: no such file"),
        (["/dev/video9999", "--gallery", tmp_path / "g.claid"], 7, "no such camera"),
    )
    for arguments, code, said in cases:
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def clip(shared_data, tmp_path_factory):
    """Six frames of a real clip, its first frame as a picture, and a small gallery with the clip's object cut out."""
    videos, folder = shared_data / "data" / "videos", tmp_path_factory.mktemp("live")
    with open(videos / "tiger_boxes.csv", newline="") as file:
        boxes = [[float(row[key]) for key in ("x0", "y0", "x1", "y1")] for row in csv.DictReader(file)]
    with av.open(str(videos / "tiger.mp4")) as source, av.open(str(folder / "clip.mp4"), "w") as target:
        stream = target.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 480, 360, "yuv420p"
        for number, frame in enumerate(source.decode(video=0)):
            if 40 <= number < 46:
                pixels = frame.to_ndarray(format="rgb24")
                target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            if number == 40:
                x0, y0, x1, y1 = (round(value) for value in boxes[number])
                (folder / "pictures").mkdir()
                cv2.imwrite(str(folder / "frame.png"), pixels[:, :, ::-1])
                cv2.imwrite(str(folder / "pictures" / "tiger.png"), pixels[y0:y1, x0:x1, ::-1])
            if number == 46:
                break
        target.mux(stream.encode(None))
    for picture in sorted((shared_data / "data" / "dev" / "images").glob("pix_*.jpg"))[:1]:
        shutil.copy(picture, folder / "pictures")
    enroll = [sys.executable, "-m", "edge_claid", "enroll", str(folder / "pictures")]
    (folder / "labels.csv").write_text("path,label\ntiger.png,tiger\n")
    options = ["--gallery", str(folder / "g.claid"), "--labels", str(folder / "labels.csv"), "--keep-descriptors"]
    subprocess.run([*enroll, *options], check=True, capture_output=True, timeout=300)
    return folder, boxes[40:46]


def overlap(box, other):
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return shared / (sum(areas) - shared)


def test_a_source_with_a_password_need_not_be_on_the_command_line(tmp_path):
    done = run("--gallery", tmp_path / "g.claid", env={**os.environ, "EDGE_CLAID_SOURCE": "rtsp://bob:s3cret@"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "rtsp://***@: an RTSP source is" in done.stderr


def test_the_source_itself_is_never_written_over(clip, tmp_path):
    folder, _ = clip
    (tmp_path / "same.mp4").symlink_to(folder / "clip.mp4")
    before = (folder / "clip.mp4").read_bytes()
    done = run(folder / "clip.mp4", "--gallery", folder / "g.claid", "--save", tmp_path / "same.mp4")
    assert (done.returncode, "is the source itself" in done.stderr) == (2, True)
    assert (folder / "clip.mp4").read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_behind_stdout_is_said_by_its_exit_code(clip):
    folder, _ = clip
    arguments = [str(folder / "clip.mp4"), "--gallery", str(folder / "g.claid"), "--json", "--vit-side", "224"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*LIVE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, "stdout cannot be written (No space left" in done.stderr) == (9, True)


def test_a_real_clip_is_found_confirmed_drawn_and_summed_up(clip):
    folder, truth = clip
    corners = ",".join(str(value) for value in truth[0])
    find = ["--find", folder / "frame.png", "--box", corners]
    done = run(folder / "clip.mp4", "--gallery", folder / "g.claid", "--json", "--save", folder / "o.mp4", *find)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    frames = [line for line in lines if "frame" in line]
    assert [line["frame"] for line in frames] == list(range(6))
    assert [line["event"] for line in lines if "event" in line][-2:] == ["source", "summary"]
    confirmed = [[track for track in line["tracks"] if track["state"] == "confirmed"] for line in frames]
    assert not confirmed[0]
    assert not confirmed[1]
    good = [any(overlap(t["box"], box) >= 0.3 for t in own) for own, box in zip(confirmed, truth, strict=True)]
    assert sum(good[2:]) >= 2
    assert {track["label"] for own in confirmed for track in own} == {"frame"}
    assert "6 frames looked at" in done.stderr
    with av.open(str(folder / "o.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6


def test_an_interruption_ends_in_good_order_with_130(clip):
    folder, _ = clip
    arguments = [str(folder / "clip.mp4"), "--gallery", str(folder / "g.claid"), "--json", "--vit-side", "224"]
    process = subprocess.Popen([*LIVE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    lines = [json.loads(line) for line in (first + rest).splitlines()]
    assert lines[0]["frame"] == 0
    assert process.returncode == 130
    assert lines[-1]["event"] == "summary"
    assert "frames looked at" in errors
    assert "Traceback" not in errors
