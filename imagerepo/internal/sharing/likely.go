package sharing

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"puavo-image-repository/meta/untrusted"
)

// Likely returns what Share will most likely do with a file and a directory that exists.
// It writes nothing.
func Likely(file, dir string) Way {
	from, fromErr := look(file)
	to, toErr := look(dir)
	switch {
	case fromErr != nil || toErr != nil:
		return Copy
	case from.sameMount(to) && from.sameDevice(to) && from.mayLink(file):
		return Link
	case from.likelyReflinks(to):
		return Reflink
	default:
		return Copy
	}
}

// Reflinks reports whether a reflink of a file can most likely be made in a directory that
// exists. It writes nothing.
func Reflinks(file, dir string) bool {
	from, fromErr := look(file)
	to, toErr := look(dir)
	return fromErr == nil && toErr == nil && from.likelyReflinks(to)
}

func (i inode) likelyReflinks(other inode) bool {
	return i.reflinks() && i.kind == other.kind && i.sameDisk(other)
}

// inode is what is known of a file or a directory.
type inode struct {
	unix.Statx_t
	kind uint32 // of file system
}

func look(path string) (inode, error) {
	var i inode
	var disk unix.Statfs_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &i.Statx_t); err != nil {
		return i, err
	}
	err := unix.Statfs(path, &disk)
	i.kind = uint32(disk.Type)
	return i, err
}

// sameMount reports whether both are on one mount. Kernels before 5.8 do not say.
func (i inode) sameMount(other inode) bool {
	return i.Mask&other.Mask&unix.STATX_MNT_ID == 0 || i.Mnt_id == other.Mnt_id
}

// sameDevice reports whether both are on one disk, and in one subvolume.
func (i inode) sameDevice(other inode) bool {
	return i.Dev_major == other.Dev_major && i.Dev_minor == other.Dev_minor
}

// reflinks reports whether the file system is one that can usually make reflinks.
func (i inode) reflinks() bool {
	return i.kind == unix.BTRFS_SUPER_MAGIC || i.kind == unix.XFS_SUPER_MAGIC
}

// sameDisk reports whether both are on one file system, in whatever subvolumes and
// mounts.
func (i inode) sameDisk(other inode) bool {
	if i.sameMount(other) {
		return true
	}
	const most = 16 << 20                                                                 // bytes
	mounts, err := untrusted.ReadFile(context.Background(), "/proc/self/mountinfo", most) // the kernel answers at once
	if err != nil {
		return false
	}
	disk := diskOf(string(mounts), i.Mnt_id)
	return disk != "" && disk == diskOf(string(mounts), other.Mnt_id)
}

// diskOf returns the device of the file system of a mount, "" if it is not known. See
// proc_pid_mountinfo(5).
func diskOf(mounts string, id uint64) string {
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[0] == strconv.FormatUint(id, 10) {
			return fields[2]
		}
	}
	return ""
}

// mayLink reports whether the owner and the mode of a file allow this thread to link to
// it, see fs.protected_hardlinks in proc_sys_fs(5).
func (i inode) mayLink(path string) bool {
	return unprotected() || i.own() || ownsAll() || i.harmless(path)
}

// own reports whether this thread owns a file.
func (i inode) own() bool {
	uid, err := unix.SetfsuidRetUid(-1) // changes nothing
	return err == nil && uid == int(i.Uid)
}

// harmless reports whether this thread may write a file, and a link to it gives nobody
// another's rights.
func (i inode) harmless(path string) bool {
	const setgid = unix.S_ISGID | unix.S_IXGRP
	return i.Mode&unix.S_ISUID == 0 && i.Mode&setgid != setgid &&
		unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK|unix.W_OK, unix.AT_EACCESS) == nil
}

// protected is a variable since tests have another file.
var protected = "/proc/sys/fs/protected_hardlinks"

// unprotected reports whether everybody may link to every file.
func unprotected() bool {
	data, err := untrusted.ReadFile(context.Background(), protected, 16) // likewise
	return err == nil && strings.TrimSpace(string(data)) == "0"
}

// ownsAll reports whether this thread may do with every file what its owner may, as root
// may.
func ownsAll() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	return unix.Capget(&header, &caps[0]) == nil && caps[0].Effective&(1<<unix.CAP_FOWNER) != 0
}
