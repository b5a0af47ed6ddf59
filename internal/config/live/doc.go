// SPDX-License-Identifier: Apache-2.0

// Package live asks this machine whether it can carry a configuration:
// privileges, kernel, interfaces, ports, room in the kernel table. It reads
// and tries, and leaves everything as it was.
package live
