package rules

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoGeneration is in the chain of the error of Generation where no number tells of changes.
var ErrNoGeneration = errors.New("the kernel does not number the rules of iptables")

// Generation returns the number of the present rules of nftables. Each transaction, be it of nft or of iptables, counts
// the number up: two looks with the same number have seen the same rules. The legacy backend of iptables has no such
// number, and an iptables whose backend its name does not tell is taken for legacy: no program is started.
func Generation() (uint32, error) {
	if backend, err := backendByName(); err != nil || backend != NFT {
		return 0, errors.Join(ErrNoGeneration, err)
	}
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.AddRawData([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0})
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, errors.Join(ErrNoGeneration, err)
	}
	for _, answer := range answers {
		if len(answer) < nfHeader {
			continue
		}
		attributes, err := nl.ParseRouteAttrAsMap(answer[nfHeader:])
		if err != nil {
			return 0, err
		}
		if id := attributes[unix.NFTA_GEN_ID].Value; len(id) == 4 {
			return binary.BigEndian.Uint32(id), nil
		}
	}
	return 0, ErrNoGeneration
}

// nfHeader is the length of the header of a message of nfnetlink.
const nfHeader = 4
