// SPDX-License-Identifier: Apache-2.0

// Package adverts runs the election in a process of its own. It owns the
// adverts on the wire and the virtual addresses; it never sees a flow, a peer
// of the sync link, or the fence: those belong to the daemon, and the two
// meet in one handshake over a socketpair.
//
//	daemon                                child (tandem adverts)
//	------                                ----------------------
//	Start  --- hello ------------------>  Cleanup
//	Begin  --- groups, begin ---------->  open interfaces
//	       <-- Promoting --------------   Active, advert is out
//	fence up
//	       --- Fenced ----------------->  addresses in, announced
//	       <-- AddressesIn ------------
//	fence up
//	       --- TakeOver --------------->  Active, advert is out, addresses in
//	       <-- Promoting, AddressesIn -
//	       <-- Demoting ---------------   adverts stopped
//	RELEASE to the peer
//	       --- Released --------------->  addresses out
//	       <-- AddressesOut -----------
//	End    --- end -------------------->  as above, for good
//	       <-- Ended ------------------
//
// Sets begin and end while others run; the start is nothing but the first to
// begin.
//
// In the child one locked real-time thread receives, decides and sends
// (loop.go); a second one watches links, keeps sockets and addresses and
// announces (stage.go), since everything that takes the rtnl lock may wait
// for the whole host.
//
//	process.go reconfigure.go event.go status.go names.go tracked.go   the daemon's side (tracked.go: both)
//	codec.go shm.go                 what crosses the border
//	gate.go                         the handshake's machine, pure
//	main.go newloop.go loop.go member.go obey.go perform.go receive.go ring.go send.go   the child's first thread
//	stage.go stageport.go stagemember.go stageset.go stagegroup.go stagemac.go stagesay.go   its second thread
package adverts
