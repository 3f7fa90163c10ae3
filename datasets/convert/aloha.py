"""ALOHA's files, as ACT reads them: a folder of `episode_<i>.hdf5`, one for each episode.

    /observations/{qpos,qvel}     (T, D), effort where it was measured
    /observations/images/<cam>    (T, height, width, 3) uint8
    /action                       (T, A) float32
    attribute `sim`               whether actions belong to the observation of their own row

ACT's loader pairs observation t with the actions from t on where `sim` is true, and from t - 1 on where it is false,
because on ALOHA's hardware images come late. It wants episodes of one length, numbered without gaps.
"""

from understudy.datasets.convert.aloha_reader import AlohaImport, read
from understudy.datasets.convert.aloha_writer import AlohaExport, write

__all__ = ["AlohaExport", "AlohaImport", "read", "write"]
