package s3

import (
	"testing"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/storetest"
	"puavo-image-repository/testdata"
)

// A bucket is a store, with a prefix and without one.
func TestStore(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"some/prefix", ""}[:testdata.Scale(2, 1)] {
		t.Run("prefix "+prefix, func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) store.Store {
				o := bucketOf(testdata.NewS3(t))
				o.Prefix = prefix
				return opened(t, o)
			})
		})
	}
}
