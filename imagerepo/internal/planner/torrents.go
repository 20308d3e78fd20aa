package planner

import (
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/torrents"
	"puavo-image-repository/imagerepo/plan"
)

// addTorrents plans the torrents of what is published.
func (p *planner) addTorrents() {
	for _, im := range p.plan.Images {
		if im.Published() {
			p.addTorrent(plan.Torrent{File: im.File, Size: im.Size, ImageSize: im.Size}, isNew(&im))
		}
	}
	for _, d := range p.plan.Deltas {
		if d.Action != plan.Drop {
			p.addTorrent(plan.Torrent{File: d.File, Size: d.Size, ImageSize: d.TargetSize}, d.Size == 0)
		}
	}
	for _, c := range p.plan.Compact {
		if c.There() {
			p.addTorrent(plan.Torrent{File: c.File, Size: c.Size, ImageSize: c.TargetSize}, false)
		}
	}
	slices.SortFunc(p.plan.Torrents, func(a, b plan.Torrent) int { return strings.Compare(a.File, b.File) })
}

// addTorrent plans a torrent, of a file that is digested by this run or not. A digested one
// that proves to be what it was keeps its torrent.
func (p *planner) addTorrent(t plan.Torrent, digested bool) {
	if !p.in.Torrents.Wants(t.File) {
		return
	}
	name := mirror.TorrentOf(t.File)
	stamp, _ := p.in.Holds.Has(name)
	var content cksum.Digest256
	if record := p.in.Holds.Records[t.File]; record.Summed() {
		content = record.Sums.BLAKE3
	}
	t.Action, t.Read = torrents.Decide(p.in.Torrents, p.in.Holds.Records[name], stamp, content)
	if digested {
		t.Action, t.Read = plan.Make, false
	}
	p.plan.Torrents = append(p.plan.Torrents, t)
}
