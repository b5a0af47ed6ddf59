// SPDX-License-Identifier: Apache-2.0

// Package guest holds tests of the guest itself: they say what Linux 6.1 in
// test/vm offers to the tests of other rooms that run there. They are built
// with the tag vm and never run on the machine.
package guest
