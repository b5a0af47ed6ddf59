// SPDX-License-Identifier: Apache-2.0

// Package bpf holds tandem's BPF programs, one file per hook, and the objects
// compiled from them. It decides nothing: package loader loads them, package
// maps reads what they write.
package bpf

import "github.com/cilium/ebpf"

//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel -type flow_record -type flow_counters -type ignore_key flow flow.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel -type advert_record -type advert_counters advert advert.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel advertXDP advert_xdp.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel -type fence_counters -type own_key fence fence.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel fenceTC fence_tc.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel accept accept.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -cc clang-19 -no-global-types -target bpfel -type sync_session -type sync_pair -type sync_named -type sync_window -type sync_buckets -type sync_stamp -type sync_counters sync sync.bpf.c -- -mcpu=v3 -Wall -Wextra -Werror

// What programs and user space exchange: include/shared.h as Go sees it.
type (
	FlowRecord     = flowFlowRecord
	FlowCounters   = flowFlowCounters
	IgnoreKey      = flowIgnoreKey
	AdvertRecord   = advertAdvertRecord
	AdvertCounters = advertAdvertCounters
	FenceCounters  = fenceFenceCounters
	OwnKey         = fenceOwnKey
	SyncSession    = syncSyncSession
	SyncPair       = syncSyncPair
	SyncNamed      = syncSyncNamed
	SyncWindow     = syncSyncWindow
	SyncBuckets    = syncSyncBuckets
	SyncStamp      = syncSyncStamp
	SyncCounters   = syncSyncCounters
)

// Flow gives flow.bpf.c: program tandem_flow.
func Flow() (*ebpf.CollectionSpec, error) { return loadFlow() }

// Advert gives advert.bpf.c: program tandem_advert.
func Advert() (*ebpf.CollectionSpec, error) { return loadAdvert() }

// AdvertXDP gives advert_xdp.bpf.c: program tandem_adv_xdp, with the maps of
// Advert.
func AdvertXDP() (*ebpf.CollectionSpec, error) { return loadAdvertXDP() }

// Fence gives fence.bpf.c: programs tandem_fence4 and tandem_fence6.
func Fence() (*ebpf.CollectionSpec, error) { return loadFence() }

// FenceTC gives fence_tc.bpf.c: program tandem_fence_tc.
func FenceTC() (*ebpf.CollectionSpec, error) { return loadFenceTC() }

// Accept gives accept.bpf.c: programs tandem_accept4 and tandem_accept6.
func Accept() (*ebpf.CollectionSpec, error) { return loadAccept() }

// Sync gives sync.bpf.c: program tandem_sync.
func Sync() (*ebpf.CollectionSpec, error) { return loadSync() }
