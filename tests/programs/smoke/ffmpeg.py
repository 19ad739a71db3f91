"""ffmpeg: frames in aligned buffers, passed between the threads of filters and codecs."""

from .harness import Program


def work(side):
    """a made picture and sound, filtered, encoded by threads, decoded again; hashes of all frames"""
    side.serves("ffmpeg", "-version")
    seconds = side.amount(3, 20)
    quiet = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "warning", "-y"]
    exact = ["-flags", "+bitexact", "-fflags", "+bitexact"]
    side.run(
        [*quiet, "-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={seconds}", "-f", "lavfi"]
        + ["-i", f"sine=frequency=440:beep_factor=4:duration={seconds}", "-vf", "hue=s=2,gblur=sigma=1,vflip"]
        + ["-c:v", "mpeg4", "-q:v", "5", "-threads", "2", "-c:a", "aac", *exact, "made.mkv"]
    )
    results = {"encoded": (side.work / "made.mkv").read_bytes()}
    results["decoded"] = side.run([*quiet, "-threads", "2", "-i", "made.mkv", *exact, "-f", "framemd5", "-"])
    side.run(
        [*quiet, "-i", "made.mkv", "-vf", "scale=320:180", "-c:v", "ffv1", "-level", "3", "-slices", "4"]
        + ["-threads", "2", "-c:a", "flac", *exact, "lossless.mkv"]
    )
    results["lossless"] = side.run([*quiet, "-threads", "2", "-i", "lossless.mkv", *exact, "-f", "framemd5", "-"])
    return results


PROGRAM = Program("ffmpeg", work, needs=["ffmpeg"], starts=["ffmpeg"])
