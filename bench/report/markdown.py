# SPDX-License-Identifier: MIT
"""Tables in Markdown, and their places in a document that people write the rest of."""
import re


def table(header, rows, column='---:'):
    """Columns after the first are numbers, aligned to the right, unless it is said otherwise."""
    lines = ['| ' + ' | '.join(header) + ' |',
             '|---|' + (column + '|') * (len(header) - 1)]
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
    return '\n'.join(lines)


def rate(number):
    """Operations a second with three digits or more: 831, 9,391, 76.1 k, 1.32 M."""
    if number is None:
        return '-'
    if number < 10_000:
        return f'{number:,.0f}'
    if number < 100_000:
        return f'{number / 1e3:.1f} k'
    if number < 1_000_000:
        return f'{number / 1e3:.0f} k'
    return f'{number / 1e6:.2f} M'


def micros(number):
    return f'{number:.2f}' if number < 10 else f'{number:,.0f}'


def seconds(number):
    return f'{number:.4f}' if number < 0.1 else f'{number:.3f}'


def count(number):
    """10,000,000 as 10 M."""
    for unit, name in ((10**6, ' M'), (10**3, ' k')):
        if number >= unit and number % (unit // 10) == 0:
            return f'{number / unit:g}{name}'
    return f'{number:,}'


def verdict(reached):
    return 'yes' if reached else '**no**'


def markers(name):
    return f'<!-- begin table {name} -->', f'<!-- end table {name} -->'


def replace(document, name, text):
    """The document with `text` between the markers of that name; they must be there once."""
    begin, end = markers(name)
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(f'one pair of markers is needed: {begin} {end}')
    pattern = re.escape(begin) + r'.*?' + re.escape(end)
    return re.sub(pattern, lambda _: f'{begin}\n\n{text}\n\n{end}', document, flags=re.S)
