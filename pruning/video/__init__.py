"""Clips: read from files into frames with their times. Knows no model."""

from pruning.video.clip import Clip as Clip
from pruning.video.clip import VideoError as VideoError
from pruning.video.reading import FRAMES as FRAMES
from pruning.video.reading import RATE as RATE
from pruning.video.reading import Limits as Limits
from pruning.video.reading import open_clip as open_clip
from pruning.video.reading import open_media as open_media
