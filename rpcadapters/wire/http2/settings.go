package http2

import (
	"encoding/binary"
	"strconv"
)

type settingID uint16

const (
	settingHeaderTableSize      settingID = 0x1
	settingEnablePush           settingID = 0x2
	settingMaxConcurrentStreams settingID = 0x3
	settingInitialWindowSize    settingID = 0x4
	settingMaxFrameSize         settingID = 0x5
	settingMaxHeaderListSize    settingID = 0x6
)

type setting struct {
	id    settingID
	value uint32
}

// peerSettings is what the peer has said of itself.
type peerSettings struct {
	tableSize     uint32 // of HPACK
	enablePush    bool
	maxStreams    uint32 // that we may have open
	initialWindow int32  // of a stream, for what we send
	frameSize     int    // largest it takes
	headerList    uint32 // largest it takes, decoded
}

func defaultSettings() peerSettings {
	return peerSettings{
		tableSize: defaultTableSize, enablePush: true, maxStreams: maxStreamID,
		initialWindow: defaultWindow, frameSize: defaultFrameSize, headerList: 1<<32 - 1,
	}
}

// apply takes over the values of a SETTINGS frame. The caller compares what changed, answers with an ACK, and moves the
// windows of open streams by the difference of initialWindow. Of a value that is there twice the last one counts.
func (s *peerSettings) apply(f *inFrame) error {
	for p := f.payload; len(p) >= 6; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch settingID(binary.BigEndian.Uint16(p)) {
		case settingHeaderTableSize:
			s.tableSize = v
		case settingEnablePush:
			if v > 1 {
				return connFault(ProtocolError, "ENABLE_PUSH of "+strconv.FormatUint(uint64(v), 10)+", want 0 or 1")
			}
			s.enablePush = v == 1
		case settingMaxConcurrentStreams:
			s.maxStreams = v
		case settingInitialWindowSize:
			if v > maxWindow {
				return connFault(FlowControlError, "INITIAL_WINDOW_SIZE of "+strconv.FormatUint(uint64(v), 10)+", want 2^31-1 at most")
			}
			s.initialWindow = int32(v)
		case settingMaxFrameSize:
			if v < defaultFrameSize || v >= 1<<24 {
				return connFault(ProtocolError, "MAX_FRAME_SIZE of "+strconv.FormatUint(uint64(v), 10)+", want 16384 to 16777215")
			}
			s.frameSize = int(v)
		case settingMaxHeaderListSize:
			s.headerList = v
		}
	}
	return nil
}
