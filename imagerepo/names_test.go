package imagerepo

import (
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// The images that most tests here speak of, oldest first.
const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
)

func name(s string) meta.Name {
	n, err := meta.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func names(list ...string) []meta.Name {
	var all []meta.Name
	for _, s := range list {
		all = append(all, name(s))
	}
	return all
}

// withTorrents has all files have torrents.
var withTorrents = plan.Torrents{Of: plan.TorrentsOfAll}

var usual = plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.9}
