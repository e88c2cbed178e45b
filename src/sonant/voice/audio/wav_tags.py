"""Names of WAVE format tags, from Microsoft's mmreg.h and RFC 2361."""

from __future__ import annotations

PCM, MS_ADPCM, FLOAT, A_LAW, MU_LAW, IMA_ADPCM, GSM, G721 = 1, 2, 3, 6, 7, 0x11, 0x31, 0x40
MPEG, MP3, EXTENSIBLE = 0x50, 0x55, 0xFFFE

NAMES = {
    0x0001: "PCM", 0x0002: "MS ADPCM", 0x0003: "float", 0x0004: "Compaq VSELP", 0x0005: "IBM CVSD",
    0x0006: "A-law", 0x0007: "mu-law", 0x0008: "DTS", 0x0009: "encrypted (DRM)", 0x000A: "WMA Voice 9",
    0x0010: "OKI ADPCM", 0x0011: "IMA ADPCM", 0x0012: "MediaSpace ADPCM", 0x0013: "Sierra ADPCM",
    0x0014: "G.723 ADPCM", 0x0015: "DigiSTD", 0x0016: "DigiFIX", 0x0017: "Dialogic OKI ADPCM",
    0x0020: "Yamaha ADPCM", 0x0021: "Sonarc", 0x0022: "DSP Group TrueSpeech", 0x0024: "APTX",
    0x0028: "Antex LRC", 0x0030: "Dolby AC-2", 0x0031: "GSM 6.10", 0x0032: "MSN audio",
    0x0033: "Antex ADPCME", 0x0034: "Control Resources VQLPC", 0x0036: "DigiADPCM",
    0x0038: "NMS VBX ADPCM", 0x003B: "Rockwell ADPCM", 0x003C: "Rockwell DigiTalk", 0x0040: "G.721 ADPCM",
    0x0041: "G.728 CELP", 0x0042: "G.723.1", 0x0045: "G.726 ADPCM", 0x0050: "MPEG layer 1 or 2",
    0x0052: "RT24", 0x0053: "PAC", 0x0055: "MP3", 0x0057: "AMR-NB", 0x0058: "AMR-WB", 0x0059: "Lucent G.723",
    0x0060: "Cirrus", 0x0061: "ESPCM", 0x0062: "Voxware", 0x0063: "Canopus ATRAC", 0x0064: "G.726 ADPCM",
    0x0065: "G.722 ADPCM", 0x0067: "DSAT display", 0x0069: "Voxware byte-aligned", 0x0070: "Voxware AC8",
    0x0075: "Voxware MetaVoice", 0x0077: "Voxware MetaSound", 0x0078: "Voxware RT29HW",
    0x0079: "Voxware VR12", 0x007A: "Voxware VR18", 0x007B: "Voxware TQ40", 0x0080: "Softsound",
    0x0081: "Voxware TQ60", 0x0082: "MSRT24", 0x0083: "G.729A", 0x0085: "DF G.726", 0x0086: "DF GSM 6.10",
    0x0089: "Onlive", 0x0091: "SBC24", 0x0092: "Dolby AC-3 SPDIF", 0x0093: "MediaSonic G.723",
    0x0097: "Zyxel ADPCM", 0x0098: "Philips LPCBB", 0x0099: "Packed", 0x00FF: "AAC", 0x0100: "Rhetorex ADPCM",
    0x0101: "BeCubed IRAT", 0x0111: "Vivo G.723", 0x0112: "Vivo Siren", 0x0120: "Philips CELP",
    0x0123: "DEC G.723", 0x0125: "Sanyo LD-ADPCM", 0x0130: "Sipro ACELP.net", 0x0131: "Sipro ACELP.4800",
    0x0132: "Sipro ACELP.8V3", 0x0133: "Sipro G.729", 0x0134: "Sipro G.729A", 0x0135: "Sipro ACELP.kelvin",
    0x0140: "Dictaphone G.726 ADPCM", 0x0150: "Qualcomm PureVoice", 0x0151: "Qualcomm HalfRate",
    0x0155: "Ring Zero TUB GSM", 0x0160: "WMA 1", 0x0161: "WMA 2", 0x0162: "WMA Pro", 0x0163: "WMA Lossless",
    0x0200: "Creative ADPCM", 0x0202: "Creative FastSpeech 8", 0x0203: "Creative FastSpeech 10",
    0x0215: "Ulead ADPCM", 0x0216: "G.729", 0x0220: "Quarterdeck", 0x0240: "Raw Sport", 0x0241: "ESST AC-3",
    0x0270: "ATRAC3", 0x028F: "G.722 ADPCM", 0x0300: "FM Towns SND", 0x0400: "BTV Digital",
    0x0401: "Intel Music Coder", 0x0402: "Indeo Audio", 0x0450: "QDesign Music", 0x0500: "On2 VP6 audio",
    0x0501: "On2 VP7 audio", 0x1000: "Olivetti GSM", 0x1001: "Olivetti ADPCM", 0x1002: "Olivetti CELP",
    0x1003: "Olivetti SBC", 0x1004: "Olivetti OPR", 0x1100: "Lernout & Hauspie", 0x1101: "L&H CELP",
    0x1102: "L&H SBC 8", 0x1103: "L&H SBC 12", 0x1104: "L&H SBC 16", 0x1600: "AAC (ADTS)",
    0x1602: "AAC (LOAS)", 0x1610: "HE-AAC", 0x181C: "Voxware RT24", 0x1971: "Sonic Foundry lossless",
    0x1C07: "Lucent SX8300P", 0x2000: "Dolby AC-3", 0x2001: "DTS", 0x4143: "Divio AAC",
    0x4201: "Nokia AMR", 0x566F: "Vorbis", 0x674F: "Vorbis 1", 0x6750: "Vorbis 2", 0x6751: "Vorbis 3",
    0x676F: "Vorbis 1+", 0x6770: "Vorbis 2+", 0x6771: "Vorbis 3+", 0x704F: "Opus", 0x706D: "AAC",
    0x7A21: "AMR-NB (3GPP)", 0x7A22: "AMR-WB (3GPP)", 0xA100: "Comverse G.723.1", 0xA106: "AAC",
    0xA109: "Speex", 0xF1AC: "FLAC",
}  # fmt: skip
"""By tag."""


def tag_name(tag: int) -> str:
    """Return the name of an encoding for messages."""
    name = NAMES.get(tag)
    return f"{name} ({tag:#06x})" if name else f"encoding {tag:#06x}, which no list names,"
