// SPDX-License-Identifier: Apache-2.0

package takeover

// heir is the term of an Active whose takeover is whole and of which all is
// here; 0: there is none.
func (m *Machine) heir() (term uint32) {
	for _, p := range m.peers {
		if s := p.state; p.up && p.view && s.Role == RoleActive && s.Phase == PhaseNone && s.Whole && s.Drained {
			term = s.Term
		}
	}
	return term
}

// settleHeirs is for three nodes and more: what this Backup holds of one that
// has been silent for a while is over when another has taken all of it over. What
// that one does not have does not live.
func (m *Machine) settleHeirs(now int64) {
	term := m.heir()
	if term == 0 || m.stage != stageBackup {
		return
	}
	for id, p := range m.peers {
		if !p.up && p.heir != term && p.lost != 0 && now >= p.lost+int64(m.timing.HandOver) {
			p.heir = term
			m.do(Action{Kind: ActBequeath, Peer: id})
		}
	}
}

// bequest is when settleHeirs has something to do.
func (m *Machine) bequest() (at int64, on bool) {
	term := m.heir()
	if term == 0 || m.stage != stageBackup {
		return 0, false
	}
	for _, p := range m.peers {
		if due := p.lost + int64(m.timing.HandOver); !p.up && p.heir != term && p.lost != 0 && (!on || due < at) {
			at, on = due, true
		}
	}
	return at, on
}

// settleReleased lets released flows go once the Active is known to own them,
// in a term that began after ours (two that were Active at once: heal.go).
// Until it has committed and adopted them our copy must not shrink: an entry
// that died here for lack of an interface would end in its view as well.
func (m *Machine) settleReleased() {
	if m.stage != stageBackup || !m.released {
		return
	}
	for _, p := range m.peers {
		if p.up && p.view && p.state.Role == RoleActive && p.state.Phase == PhaseNone && p.state.Whole && p.state.Term != p.term {
			m.released = false
			m.do(Action{Kind: ActDropReleased})
			return
		}
	}
}
