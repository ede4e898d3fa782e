package devserver

import (
	"crypto/sha1" //nolint:gosec // the digest scheme of ZooKeeper is SHA-1
	"encoding/base64"
	"slices"
	"strings"
)

const (
	permRead   int32 = 1 << 0
	permWrite  int32 = 1 << 1
	permCreate int32 = 1 << 2
	permDelete int32 = 1 << 3
	permAdmin  int32 = 1 << 4
	permAll    int32 = 1<<5 - 1
)

// id is somebody: world:anyone, digest:user:hash or ip:address.
type id struct{ scheme, name string }

type acl struct {
	perms int32
	id    id
}

func openACL() []acl { return []acl{{permAll, id{"world", "anyone"}}} }

// digest is the identity that a user with a password ("user:password") proves.
func digest(credentials string) (id, bool) {
	user, _, found := strings.Cut(credentials, ":")
	if !found {
		return id{}, false
	}
	sum := sha1.Sum([]byte(credentials)) //nolint:gosec // the digest scheme of ZooKeeper is SHA-1
	return id{"digest", user + ":" + base64.StdEncoding.EncodeToString(sum[:])}, true
}

// allowed reports whether one of the ids has a permission on a node.
func (n *node) allowed(perm int32, ids []id) bool {
	return slices.ContainsFunc(n.acl, func(a acl) bool {
		return a.perms&perm != 0 && (a.id == id{"world", "anyone"} || slices.Contains(ids, a.id))
	})
}

// resolve checks the list that a client gives and puts the client's own digests in the place of the scheme "auth".
func resolve(acls []acl, ids []id) ([]acl, code) {
	var out []acl
	for _, a := range acls {
		switch a.id.scheme {
		case "world":
			if a.id.name != "anyone" {
				return nil, invalidACL
			}
			out = append(out, a)
		case "digest":
			if user, hash, found := strings.Cut(a.id.name, ":"); !found || user == "" || hash == "" {
				return nil, invalidACL
			}
			out = append(out, a)
		case "ip":
			out = append(out, a)
		case "auth":
			found := false
			for _, i := range ids {
				if i.scheme == "digest" {
					out = append(out, acl{a.perms, i})
					found = true
				}
			}
			if !found {
				return nil, invalidACL
			}
		default:
			return nil, invalidACL
		}
	}
	if len(out) == 0 {
		return nil, invalidACL
	}
	return out, ok
}
