"""Helper package of the course "Attention in medical image analysis".

One module per idea; a module's docstring says what it holds and where it is taught. Importing the
package loads none of them, so that `import course_utils` is instant.
"""
