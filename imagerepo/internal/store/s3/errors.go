package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"puavo-image-repository/meta/untrusted"
)

var (
	errNoDate   = errors.New("the answer has no date")
	errTooLarge = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	errDigest   = errors.New("the server has other bytes than were sent; check the network and the server")
	errGone     = fmt.Errorf("not all of its parts are there (%w); publish again", fs.ErrNotExist)
	errEndless  = errors.New("the list has no end; is the endpoint right?")
)

// failure is an error whose text is for people; what it wraps is for programs.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// failed returns the error for what was done: nil for nil, and that of ctx if it ended. Its
// text leaves out what the library writes around an answer, and what is secret.
func (s *Store) failed(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := reason(err)
	if advice := s.advice(err); advice != "" {
		text += "; " + advice
	}
	if isMissing(err) {
		err = errors.Join(fs.ErrNotExist, err)
	}
	return &failure{s.String() + ": " + doing + ": " + s.redact(untrusted.Show(text)), err}
}

// redact hides keys, should a server return them.
func (s *Store) redact(text string) string {
	for _, secret := range []string{s.keys.Secret, s.keys.Token} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// reason returns what failed without what the library writes around it.
func reason(err error) string {
	text := err.Error()
	if sent, ok := errors.AsType[*url.Error](err); ok {
		text = sent.Err.Error()
	}
	if status := statusOf(err); status != 0 {
		text = fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	// Of an answer without a text the library has the status, in other words.
	answer, ok := errors.AsType[smithy.APIError](err)
	if ok && answer.ErrorMessage() != "" && answer.ErrorMessage() != answer.ErrorCode() {
		text = fmt.Sprintf("%s: %s", answer.ErrorCode(), answer.ErrorMessage())
	}
	if tries, ok := errors.AsType[*retry.MaxAttemptsError](err); ok {
		text += fmt.Sprintf(" (%d times)", tries.Attempt)
	}
	return text
}

// statusOf returns the HTTP status of the answer that an error is for, or 0.
func statusOf(err error) int {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

// codeOf returns the code of S3 in the answer that an error is for, or "".
func codeOf(err error) string {
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		return answer.ErrorCode()
	}
	return ""
}

// isMissing reports whether the file does not exist. A bucket that does not exist is another
// fault.
func isMissing(err error) bool {
	switch codeOf(err) {
	case "NoSuchKey", "NotFound":
		return true
	}
	return false
}

// advice returns what to do about an answer, or "".
func (s *Store) advice(err error) string {
	switch codeOf(err) {
	case "NoSuchBucket":
		return "create the bucket, or check its name and the endpoint"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired",
		"XAdminUserNotFound": // of versitygw
		return "check the access keys of " + s.keys.From
	case "RequestTimeTooSkewed":
		return "set the clock of this machine"
	case "SlowDown", "ServiceUnavailable", "RequestLimitExceeded":
		return "the server is busy: try again later, or with fewer jobs"
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return s.otherRegion(err)
	case "InvalidDigest", "BadDigest":
		return errDigest.Error()
	}
	switch status := statusOf(err); {
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return "the access keys of " + s.keys.From + " must be allowed to do this in the bucket: see the rights in its policy"
	case status/100 == 3:
		return s.otherRegion(err)
	case isUnanswered(err):
		return "check the network and the endpoint, then try again: what was sent is kept"
	}
	return ""
}

// isUnanswered reports whether a request got no answer, or not all of it.
func isUnanswered(err error) bool {
	_, sending := errors.AsType[*url.Error](err)
	return sending || errors.Is(err, io.ErrUnexpectedEOF)
}

// otherRegion returns what to do about a region that is not the bucket's.
func (s *Store) otherRegion(err error) string {
	region := "REGION"
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.Response != nil {
		if given := answer.Response.Header.Get("X-Amz-Bucket-Region"); given != "" {
			region = given
		}
	}
	return fmt.Sprintf("the region %s is not that of the bucket: give ?region=%s", s.options.Region, region)
}
