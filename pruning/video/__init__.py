"""Clips: read from files into frames with their times. Knows no model."""

from pruning.video.clip import FRAMES as FRAMES
from pruning.video.clip import RATE as RATE
from pruning.video.clip import Clip as Clip
from pruning.video.clip import Sampling as Sampling
from pruning.video.clip import VideoError as VideoError
from pruning.video.reading import LIMITS as LIMITS
from pruning.video.reading import Limits as Limits
from pruning.video.reading import Progress as Progress
from pruning.video.reading import kind_of as kind_of
from pruning.video.reading import notes_on as notes_on
from pruning.video.reading import open_clip as open_clip
from pruning.video.reading import open_media as open_media
from pruning.video.reading import read_clip as read_clip
